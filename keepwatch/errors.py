"""Errors of the program itself; those of its halves live in config, monitor and backup.

KeepwatchError
├── StateError        the state directory cannot be used
├── AlreadyRunning    another daemon, or another run of the same job, holds it
├── HeldByGuard       a suspicious snapshot waits for a person
├── ListenError       the address of the page cannot be listened on (keepwatch/web/server.py)
└── UsageError        the command line asks for something that does not exist
"""


class KeepwatchError(Exception):
    """What was being done, to what, why it failed; ``hint`` is what the operator can do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class StateError(KeepwatchError):
    """The state directory is missing, unwritable or not ours."""


class AlreadyRunning(KeepwatchError):  # noqa: N818 - it is a finding about others, not a fault
    """Somebody else is at it; nothing was done."""


class HeldByGuard(KeepwatchError):  # noqa: N818 - it is a finding about the data, not a fault
    """A suspicious snapshot that nobody agreed to keeps old ones from being forgotten."""


class UsageError(KeepwatchError):
    """A name on the command line is not in the settings."""

    exit_code = 2
