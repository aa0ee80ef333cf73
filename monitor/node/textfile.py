"""node_exporter's textfile collector: the operator's own ``*.prom`` files, passed on as they are.

A file that is no text format, or that has families which another file or keepwatch itself exports, is left out and
``node_textfile_scrape_error`` says so: one bad file must not make Prometheus drop the whole page.
"""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from monitor.exposition import Sample, label_text
from monitor.exposition import family as written
from monitor.node.reading import Machine, names_in, one, read

log = logging.getLogger(__name__)

_MOST_BYTES = 4 << 20
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*"'
_LINE = re.compile(
    rf"(?P<name>{_NAME})(?:\{{(?:{_LABEL},?)*\}})?[ \t]+[-+]?(?:[0-9.]+(?:[eE][-+]?\d+)?|[Ii]nf|[Nn]a[Nn])[ \t]*"
)
"""A sample without a timestamp: node_exporter refuses those, too."""
_COMMENT = re.compile(rf"#(?: (?:HELP|TYPE) (?P<name>{_NAME}) (?P<rest>.*)|.*)")
_PART = re.compile(r"_(?:sum|count|bucket)$")


class TextFiles:
    """Passes on what lies in one folder; none when no folder is configured."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = None if directory is None else str(directory)
        self._told: set[str] = set()

    def collect(self, _: Machine) -> Iterator[str]:
        """Return the good files' content, their times, and whether one was bad."""
        taken: set[str] = set()
        times: list[Sample] = []
        bad: set[str] = set()
        for name in names_in(self._directory) if self._directory else ():
            if not name.endswith(".prom"):
                continue
            path = f"{self._directory}/{name}"
            try:
                if os.path.getsize(path) > _MOST_BYTES:
                    raise ValueError(f"larger than {_MOST_BYTES} bytes")
                content = read(path)
                taken |= _families(content, taken)
                times.append((label_text(("file",), (path,)), os.path.getmtime(path)))
            except (OSError, ValueError) as error:
                bad.add(path)
                if path not in self._told:
                    log.warning("metrics file left out", extra={"path": path, "reason": error})
                continue
            yield content if content.endswith("\n") else f"{content}\n"
        self._told = bad
        yield written("node_textfile_mtime_seconds", "gauge", "Unixtime mtime of textfiles successfully read.", times)
        said = "1 if there was an error opening or reading a file, 0 otherwise"
        yield one("node_textfile_scrape_error", "gauge", said, int(bool(bad)))


def _families(content: str, taken: set[str]) -> set[str]:
    """Return the families of a file. Raises ValueError when it cannot stand on a page that has those in ``taken``."""
    found: set[str] = set()
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        match = _COMMENT.fullmatch(line) if line.startswith("#") else _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} is no sample without a timestamp: {line[:80]!r}")
        if name := match["name"]:
            found.add(_PART.sub("", name))
    if clash := sorted(name for name in found if name in taken or name.startswith(("node_scrape_", "node_textfile_"))):
        raise ValueError(f"{clash[0]} is exported already")
    return found
