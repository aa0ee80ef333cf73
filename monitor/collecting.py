"""Running the parts of a metrics page so that none can cost another: each is guarded, timed, and its outcome exported.

Knows nothing of what the parts export. Used for keepwatch's own page and for the host's.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from monitor.exposition import family, label_text

log = logging.getLogger(__name__)

Collector = tuple[str, Callable[[], Iterable[str]]]
"""Name in the outcome's label, and what returns families as text; see ``exposition.family``."""


class NothingToCollect(Exception):  # noqa: N818 - no error: this machine has no such thing
    """Raised by a collector whose subject this machine does not have; its success is 0, and nothing is logged."""


class Collectors:
    """The parts of one page, in order. Not to be run by two threads at once."""

    def __init__(self, prefix: str, parts: Sequence[Collector]) -> None:
        """``prefix`` is that of ``..._collector_success`` and ``..._collector_duration_seconds``."""
        self._prefix = prefix
        self._parts = parts
        self._failing: set[str] = set()

    def render(self) -> str:
        """Return all families, and then how their collectors fared.

        One that raises costs its own families, whole ones included, and is logged as the first of a row of failures.
        """
        texts: list[str] = []
        success: list[tuple[str, float]] = []
        seconds: list[tuple[str, float]] = []
        for name, collect in self._parts:
            started = time.perf_counter()
            try:
                texts.append("".join(collect()))
            except NothingToCollect:
                succeeded = False
            except Exception:
                succeeded = False
                if name not in self._failing:
                    log.exception("metrics collector failed", extra={"collector": name})
                self._failing.add(name)
            else:
                succeeded = True
                self._failing.discard(name)
            labels = label_text(("collector",), (name,))
            success.append((labels, int(succeeded)))
            seconds.append((labels, time.perf_counter() - started))
        of = f"{self._prefix}_collector"
        texts.append(family(f"{of}_duration_seconds", "gauge", "Time to build this part of the page.", seconds))
        texts.append(family(f"{of}_success", "gauge", "Whether this part of the page could be built.", success))
        return "".join(texts)
