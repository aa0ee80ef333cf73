"""What a question was answered with. Values only."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """How an answer is meant."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, no fault."""
    PROBLEM = "problem"
    UNKNOWN = "unknown"
    """It could not be found out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing that was looked at."""

    subject: str
    mark: Mark
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One of the questions and everything that it was answered with."""

    name: str
    """``network``, ``version``, ``permissions`` or ``records``."""
    answers: tuple[Answer, ...]

    @property
    def problems(self) -> Sequence[Answer]:
        """What is wrong."""
        return [answer for answer in self.answers if answer.mark is Mark.PROBLEM]


def ok(subject: str, message: str) -> Answer:
    """All is well with it."""
    return Answer(subject, Mark.OK, message)


def note(subject: str, message: str, hint: str = "") -> Answer:
    """Worth knowing."""
    return Answer(subject, Mark.NOTE, message, hint)


def problem(subject: str, message: str, hint: str = "") -> Answer:
    """Something is wrong with it."""
    return Answer(subject, Mark.PROBLEM, message, hint)


def unknown(subject: str, message: str, hint: str = "") -> Answer:
    """It could not be found out."""
    return Answer(subject, Mark.UNKNOWN, message, hint)
