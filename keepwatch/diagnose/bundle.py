"""The fifth question: what can be sent to somebody who helps? One tar.gz of texts without a secret in it.

Nothing goes in that was not scrubbed; files with secrets, databases and the commands that operators configured (hooks,
plugins, queries, which may hold anything) never do. Look into it all the same before you send it.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from config.documents import Document
from config.settings import Settings
from config.showing import show
from keepwatch.diagnose.answer import Question
from keepwatch.diagnose.scrubbing import Scrubber
from keepwatch.errors import UsageError
from keepwatch.view import View
from keepwatch.web.api import as_json

LEFT_OUT = "[left out: it may hold anything]"
_COMMANDS = frozenset({
    "before", "after", "run", "command", "password_command", "query", "dsn", "sql", "assert", "headers", "body",
    "environment", "on_critical", "on_warning", "on_recovery",
})  # fmt: skip
"""Settings whose values are the operator's programs and queries."""
_SYSTEM = (
    "/proc/meminfo", "/proc/mounts", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/swaps",
    "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io", "/etc/os-release",
)  # fmt: skip
_TAIL_LINES = 200
_ABOUT = """\
keepwatch's support bundle of {host}, {now:%Y-%m-%d %H:%M:%S} UTC

diagnosis.txt        the questions and their answers
settings.json        the settings in force; secrets are stars, commands left out
status.json          what the page shows
drills.jsonl         the last lines of the drill journal
plans.jsonl          the last lines of the log of plans
system/              what the kernel says of memory, mounts, load

Known secrets and what looks like one were replaced by [secret]. Look into it before you send it.
"""


def contents(
    questions: Sequence[Question],
    settings: Settings | None,
    document: Document | None,
    view: View | None,
    journals: Iterable[Path],
    host: str,
    now: datetime,
) -> dict[str, str]:
    """Return the files of the bundle by name, not scrubbed yet."""
    files = {"README.txt": _ABOUT.format(host=host, now=now), "diagnosis.txt": as_text(questions)}
    files["diagnosis.json"] = _json([asdict(question) for question in questions])
    if settings is not None and document is not None:
        files["settings.json"] = _json(without_commands(show(settings, document).data))
    if view is not None:
        files["status.json"] = _json(as_json(view))
    for journal in journals:
        if journal.exists():
            lines = journal.read_text(encoding="utf-8", errors="replace").splitlines()
            files[journal.name] = "\n".join(lines[-_TAIL_LINES:]) + "\n"
    for place in _SYSTEM:
        try:
            files[f"system/{place.strip('/').replace('/', '-')}.txt"] = Path(place).read_text(errors="replace")
        except OSError:
            continue  # not every kernel has every one
    return files


def write(file: Path, files: Mapping[str, str], scrub: Scrubber, now: datetime) -> None:
    """Write the bundle whole or not at all, readable for its owner only. Raises UsageError when it cannot be."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
            for name, text in files.items():
                data = scrub(text).encode("utf-8", "replace")
                entry = tarfile.TarInfo(f"keepwatch-support/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(now.timestamp()), 0o600
                tar.addfile(entry, io.BytesIO(data))
        fresh.replace(file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"writing the bundle to {file}: {reason}", hint="name another file with --output") from None


def as_text(questions: Sequence[Question]) -> str:
    """Write the answers for people: what is wrong first within each question."""
    lines: list[str] = []
    for number, question in enumerate(questions, 1):
        lines.append(f"{number}. {question.name}")
        worst_first = sorted(question.answers, key=lambda answer: _ORDER.index(answer.mark))
        for answer in worst_first:
            lines.append(f"   {answer.mark:<8} {answer.subject}: {answer.message}")
            if answer.hint:
                lines.append(f"            hint: {answer.hint}")
    return "\n".join(lines) + "\n"


_ORDER = ("problem", "unknown", "note", "ok")


def without_commands(data: Any) -> Any:
    """Return the settings without the values of commands and queries, which may hold anything."""
    if isinstance(data, Mapping):
        return {key: LEFT_OUT if key in _COMMANDS else without_commands(value) for key, value in data.items()}
    if isinstance(data, list):
        return [without_commands(value) for value in data]
    return data


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"
