"""Tells everybody who waits for a storage that nobody waits for them any more: in all processes of a run."""

import mmap
import time
from collections.abc import Callable
from typing import Final

_LOOK_EVERY_SECONDS: Final = 0.1


class Halt:
    """Whether a run was asked to stop. Make it before workers are forked; pickled, it is one that nobody sets.

    ``asked`` is looked at in the process that made it, which thereby tells the others.
    """

    def __init__(self, asked: Callable[[], bool] = lambda: False) -> None:
        self._asked = asked
        self._flag = mmap.mmap(-1, 1)

    def __reduce__(self) -> tuple[type["Halt"], tuple[()]]:
        return Halt, ()

    def is_set(self) -> bool:
        """Look, and pass it on."""
        if self._asked():
            self._flag[0] = 1
        return self._flag[0] == 1

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until the run is asked to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.is_set():
            time.sleep(min(left, _LOOK_EVERY_SECONDS))
