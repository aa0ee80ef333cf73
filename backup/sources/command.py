"""The output of any program as one file of a snapshot."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from backup.sources.streams import StreamCapture, StreamSource, file, folder, output_of
from config.sources import CommandSource as CommandSettings


@dataclass(frozen=True, slots=True)
class CommandSource(StreamSource):
    """A program whose standard output is worth keeping; it becomes ``/NAME/FILE_NAME``."""

    command: tuple[str, ...]
    file_name: str
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: CommandSettings, name: str, clock: Callable[[], datetime]) -> "CommandSource":
        """Make the source that a job's settings describe."""
        environment = {key: value.get_secret_value() for key, value in settings.environment.items()}
        return cls(name, clock, tuple(shlex.split(settings.run)), settings.file_name, environment)

    @contextmanager
    def capture(self) -> Iterator[StreamCapture]:
        """Start nothing yet: the program runs while its output is read."""
        at, path = self.clock(), f"/{self.name}"
        content = output_of(
            self.command, environment=dict(os.environ) | self.environment, what=f"save the output of {self.command[0]}"
        )
        yield StreamCapture(folder(path, [file(f"{path}/{self.file_name}", content, at=at)], at=at))
