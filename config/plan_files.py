"""From a folder of Markdown files to emergency plans, every problem of every file at once.

A plan begins with TOML between two ``+++`` lines (:class:`config.plans.PlanHead`). After it, each ``## heading`` is a
step, whose first lines say ``person: NAME`` and ``goal: WHAT``; the rest of it says how. What stands before the first
step is the introduction. The file's name is the plan's, and README.md is no plan.

What a plan says of jobs and checks is not looked at here: a plan outlives a job, and then needs care, not refusal.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from pydantic import ValidationError

from config.documents import Document, Place
from config.model import IDENTIFIER
from config.plans import PlanHead, Restore
from config.positions import Path as Keys
from config.problems import Problem
from config.wording import suggestion

_FENCE = "+++"
_STEP = re.compile(r"##\s+(?:\d+[.)]\s*)?(.+?)\s*#*")
_CODE = re.compile(r"\s{0,3}(```|~~~)")
_FACT = re.compile(r"(person|goal):\s*(.*)", re.IGNORECASE)
_LONGEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that one person does."""

    number: int
    """Counted from 1."""
    title: str
    person: str
    goal: str
    """How it is known to be done."""
    text: str
    """How to do it, Markdown as written."""
    line: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One emergency plan."""

    name: str
    file: Path
    head: PlanHead
    introduction: str
    steps: tuple[Step, ...]
    digest: str
    """SHA-256 of the file, so that records say which words they are about."""
    places: Mapping[Keys, Place]

    def place(self, *keys: str | int) -> Place:
        """Return where a key of the front matter stands; the file's first line for one that does not."""
        return self.places.get(keys) or self.places.get(keys[:1]) or Place(self.file, 1)

    @property
    def in_order(self) -> tuple[Restore, ...]:
        """The jobs to restore, each after those that it needs, otherwise as written."""
        by_job = {restore.job: restore for restore in self.head.restore}
        order = TopologicalSorter({restore.job: restore.after for restore in self.head.restore})
        return tuple(by_job[job] for job in order.static_order())


@dataclass(frozen=True, slots=True)
class PlanBook:
    """Everything in a folder of plans."""

    plans: tuple[Plan, ...] = ()
    """By name."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the files that are not among ``plans``, by file and line."""
    unread: frozenset[str] = frozenset()
    """Names of the plans that have problems."""

    def get(self, name: str) -> Plan | None:
        """Return the plan of that name."""
        return next((plan for plan in self.plans if plan.name == name), None)


def plan_files(folder: Path) -> list[Path]:
    """Return the files of the plans, by name; none when there is no such folder."""
    return sorted(file for file in folder.glob("*.md") if file.name != "README.md")


def read_plans(folder: Path) -> PlanBook:
    """Read every plan in ``folder``. Never raises: see ``problems``."""
    plans: list[Plan] = []
    problems: list[Problem] = []
    unread: set[str] = set()
    for file in plan_files(folder):
        found = read_plan(file)
        if isinstance(found, Plan):
            plans.append(found)
        else:
            problems += found
            unread.add(file.stem)
    return PlanBook(tuple(plans), tuple(problems), frozenset(unread))


def read_plan(file: Path) -> Plan | list[Problem]:
    """Read one plan, or everything that is wrong with it."""
    try:
        content = file.read_bytes()
        text = content.decode()
    except OSError as error:
        return [Problem(file, None, "", f"cannot be read: {(error.strerror or str(error)).lower()}")]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return [Problem(file, line, "", "not UTF-8 text; save the file as UTF-8")]
    if len(content) > _LONGEST_BYTES:
        return [Problem(file, None, "", "longer than a mebibyte, which nobody reads in an emergency")]
    return _parse(text, file, hashlib.sha256(content).hexdigest())


def _parse(text: str, file: Path, digest: str) -> Plan | list[Problem]:
    lines = text.splitlines()
    ends = [number for number, line in enumerate(lines) if line.rstrip() == _FENCE]
    if not ends or ends[0] != 0:
        return [Problem(file, 1, "", f"must begin with a line {_FENCE}, TOML, and another line {_FENCE}")]
    if len(ends) == 1:
        return [Problem(file, 1, "", f"the TOML that begins here never ends; write a line {_FENCE} after it")]
    document = Document()
    document.add("\n".join(["", *lines[1 : ends[1]]]) + "\n", file)
    problems = list(document.problems)
    if not re.fullmatch(IDENTIFIER, file.stem):
        wrong = "the file's name must be letters, digits, dots, dashes or underscores, and .md"
        problems.append(Problem(file, None, "", wrong))
    head: PlanHead | None = None
    if not document.problems:
        try:
            head = PlanHead.model_validate(document.data)
        except ValidationError as errors:
            from config.explain import explain  # knows every model, to name what is wrong

            problems += [explain(error, document, PlanHead) for error in errors.errors(include_url=False)]
        problems += _order_problems(document)
    introduction, steps = _steps(lines, ends[1] + 1)
    problems += _step_problems(steps, file)
    if problems or head is None:
        return sorted(problems, key=lambda problem: problem.line or 0)
    return Plan(file.stem, file, head, introduction, tuple(steps), digest, document.places)


def _steps(lines: list[str], start: int) -> tuple[str, list[Step]]:
    """Cut the Markdown into introduction and steps; a heading inside a block of code is none."""
    heads: list[tuple[int, str]] = []
    in_code = False
    for place in range(start, len(lines)):
        if _CODE.match(lines[place]):
            in_code = not in_code
        elif not in_code and (match := _STEP.fullmatch(lines[place])):
            heads.append((place, match[1]))
    first = heads[0][0] if heads else len(lines)
    steps = [
        _step(number, title, lines[place + 1 : end], place + 1)
        for number, ((place, title), (end, _)) in enumerate(pairwise([*heads, (len(lines), "")]), 1)
    ]
    return "\n".join(lines[start:first]).strip(), steps


def _step(number: int, title: str, body: list[str], line: int) -> Step:
    facts: dict[str, str] = {}
    place = 0
    while place < len(body):
        match = _FACT.fullmatch(body[place].strip())
        if match:
            facts[match[1].lower()] = match[2].strip()
        elif body[place].strip():
            break
        place += 1
    return Step(number, title, facts.get("person", ""), facts.get("goal", ""), "\n".join(body[place:]).rstrip(), line)


def _step_problems(steps: list[Step], file: Path) -> Iterator[Problem]:
    if not steps:
        yield Problem(file, None, "", "has no steps; write each as a line beginning with ##")
    for step in steps:
        for fact, example in (("person", "person: who does it"), ("goal", "goal: how it is known to be done")):
            if not getattr(step, fact):
                yield Problem(file, step.line, f"step {step.number}", f"has no {fact}; write a line `{example}`")


def _order_problems(document: Document) -> Iterator[Problem]:
    """Check what the jobs of a plan say of each other, on the document as written."""
    written = document.data.get("restore")
    rows = [row for row in written if isinstance(row, dict)] if isinstance(written, list) else []
    jobs = [row.get("job") for row in rows]
    known = [job for job in jobs if isinstance(job, str)]
    needs: dict[str, list[str]] = {}
    for index, row in enumerate(rows):
        job, after = row.get("job"), row.get("after", [])
        if not isinstance(job, str) or not isinstance(after, list):
            continue
        if job in needs:
            yield document.problem(("restore", index, "job"), f"job '{job}' is restored twice")
        for place, other in enumerate(after):
            if isinstance(other, str) and other not in known:
                problem = f"the plan restores no job named '{other}'{suggestion(other, known)}"
                yield document.problem(("restore", index, "after", place), problem)
        needs[job] = [other for other in after if isinstance(other, str) and other in known]
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        yield document.problem(("restore",), f"jobs wait for each other in a circle: {circle}")
