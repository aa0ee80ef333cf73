"""Options that many commands share, and what they load."""

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from backup.errors import RepositoryMissing
from config.documents import Document
from config.jobs import RepositorySettings
from config.loading import find_config, find_state_dir, load_document
from config.settings import Settings
from config.units import parse_duration
from keepwatch.errors import UsageError
from keepwatch.first_use import is_first_use
from keepwatch.state import StateDirectory

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration file.", show_default=False)]
StateOption = Annotated[Path | None, typer.Option("--state-dir", help="State directory.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RepositoryOption = Annotated[
    str | None, typer.Option("--repository", help="Which one; needed when there are several.", show_default=False)
]
UrlOption = Annotated[
    str | None,
    typer.Option("--repository-url", help="Any restic repository, without configuration.", show_default=False),
]
PasswordOption = Annotated[
    Path | None, typer.Option("--password-file", help="Its password, with --repository-url.", show_default=False)
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
JobsArgument = Annotated[list[str] | None, typer.Argument(metavar="[JOB]...", help="Which jobs; all by default.")]
JobOption = Annotated[str | None, typer.Option(help="Only snapshots of this job.", show_default=False)]
SnapshotArgument = Annotated[str, typer.Argument(help="An id, a prefix of one, or latest.", show_default=False)]


@dataclass(frozen=True)
class Setup:
    """What the command was told about where things are. Settings and state are looked at when first asked for."""

    config: ConfigOption = None
    state_dir: StateOption = None

    @cached_property
    def path(self) -> Path | None:
        """The configuration file in use; None for the embedded default."""
        return find_config(self.config, os.environ)

    @cached_property
    def _loaded(self) -> tuple[Settings, Document]:
        state_dir = find_state_dir(self.state_dir, self.path, os.environ)
        return load_document(self.path, environ=os.environ, state_dir=state_dir)

    @property
    def settings(self) -> Settings:
        """The settings. Raises ConfigProblems."""
        return self._loaded[0]

    @property
    def document(self) -> Document:
        """What was written, and where. Raises ConfigProblems."""
        return self._loaded[1]

    @cached_property
    def state(self) -> StateDirectory:
        """The state directory, made where it is missing. Raises StateError."""
        return StateDirectory(self.settings.daemon.state_dir)

    @cached_property
    def recorded(self) -> StateDirectory:
        """The state directory of a command that only reads, and makes nothing. Raises StateError."""
        return StateDirectory(self.settings.daemon.state_dir, to_read=True)

    def repository(self, name: str | None, url: str | None, password_file: Path | None) -> RepositorySettings:
        """Choose the repository that the options mean. Raises UsageError, RepositoryMissing."""
        if url:
            if password_file is None:
                raise UsageError("--repository-url needs --password-file", hint="name a file with the password in it")
            return RepositorySettings(url=url, password_file=password_file.absolute(), create=False)
        return self.settings.repositories[self.repository_name(name)]

    def repository_name(self, name: str | None) -> str:
        """Choose a configured repository; the only one when none is named. Raises UsageError, RepositoryMissing."""
        self._require_first_use()
        known = list(self.settings.repositories)
        if name is None and len(known) == 1:
            return known[0]
        if name is None:
            raise UsageError("more than one repository is configured", hint=f"add --repository: {', '.join(known)}")
        if name not in known:
            raise UsageError(f"no repository is named {name}", hint=f"configured: {', '.join(known) or 'none'}")
        return name

    def jobs(self, names: list[str] | None) -> list[str]:
        """Return the named jobs, or all of them. Raises UsageError, RepositoryMissing."""
        self._require_first_use()
        known = list(self.settings.jobs)
        for name in names or []:
            if name not in known:
                raise UsageError(f"no job is named {name}", hint=f"configured: {', '.join(known) or 'none'}")
        if not known:
            raise UsageError("no job is configured", hint="add a [jobs.NAME] section, as `keepwatch config init` shows")
        return list(names) if names else known

    def _require_first_use(self) -> None:
        """Whoever configured nothing has to run the daemon first, or to say where it ran. Raises RepositoryMissing."""
        if self.path is None and is_first_use(self.settings):
            raise RepositoryMissing(
                f"nothing is configured, and keepwatch never ran on {self.settings.daemon.state_dir}",
                hint="begin with `keepwatch run`; or say where it runs by --state-dir, or what it does by --config",
            )


def duration(text: str) -> timedelta:
    """Read a duration option. Raises UsageError."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"'{text}' is {error}") from None
