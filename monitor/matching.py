"""Which alerts are meant: matchers on labels, as Alertmanager writes them, and the labels that an alert has.

Pure; knows nothing of what is done with the alerts that match.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from monitor.alerting import Alert

_MATCHER = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)(.*)", re.DOTALL)
_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "=": lambda value, wanted: value == wanted,
    "!=": lambda value, wanted: value != wanted,
    "=~": lambda value, wanted: re.fullmatch(wanted, value) is not None,
    "!~": lambda value, wanted: re.fullmatch(wanted, value) is None,
}


@dataclass(frozen=True, slots=True)
class Matcher:
    """``label=value``, ``label!=value``, ``label=~regex`` or ``label!~regex``; the regex must match the whole value.

    A label that an alert does not have counts as the empty text, as in Alertmanager.
    """

    label: str
    op: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Matcher":
        """Read one matcher. Raises ValueError that says what is wrong with it."""
        if not (match := _MATCHER.fullmatch(text)):
            raise ValueError(f"'{text}' is not a matcher; write label=value or label=~regex, such as check='root disk'")
        label, op, value = match.group(1), match.group(2), match.group(3).strip()
        if op.endswith("~"):
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"'{value}' in '{text}' is not a regular expression: {error}") from None
        return cls(label, op, value)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the labels are meant."""
        return _COMPARE[self.op](labels.get(self.label, ""), self.value)

    def __str__(self) -> str:
        return f"{self.label}{self.op}{self.value}"


def labels_of(alert: Alert, host: str) -> dict[str, str]:
    """Return all labels that a silence can match: the alert's own, and alertname, check, entity, severity, host, id."""
    return {
        **alert.labels, "alertname": alert.name, "check": alert.check, "entity": alert.entity,
        "severity": alert.severity.label, "host": host, "id": alert.id,
    }  # fmt: skip
