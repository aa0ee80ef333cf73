"""What one run of a check says about each of its entities, those included that it does not mention.

A run is complete: it names every entity there is. So one that it leaves out is gone, unless the whole run failed and
says nothing about anybody; and one that the operator named may not go in silence. Pure; decides what each alert is
fed, never what becomes of it (monitor/alerting.py).
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from monitor.alerting import Policy, no_data_result
from monitor.result import Result, Status


@dataclass(frozen=True, slots=True)
class News:
    """What to feed to the alerts of one check."""

    results: tuple[Result, ...]
    """To the check's alert of each entity."""
    no_data: tuple[Result, ...]
    """To its ``CheckNoData`` of each entity; entity ``""`` stands for the check as a whole."""
    gone: frozenset[str]
    """Entities whose alert is to end without a result."""
    no_data_gone: frozenset[str]
    """Entities whose ``CheckNoData`` is to end without a result."""


def split(results: Sequence[Result]) -> Iterator[tuple[str, dict[str, Result]]]:
    """Sort a batch into runs of checks, in order; an entity that comes again begins its check's next run."""
    runs: dict[str, dict[str, Result]] = {}
    for result in results:
        run = runs.setdefault(result.check, {})
        if result.entity in run:
            yield result.check, run
            run = runs[result.check] = {}
        run[result.entity] = result
    yield from runs.items()


def read(run: Mapping[str, Result], policy: Policy, alerting: Set[str], without_data: Set[str]) -> News:
    """Read a run: results by entity, at least one. ``alerting`` and ``without_data``: entities with an open alert."""
    sample = next(iter(run.values()))
    silent = (alerting | policy.configured) - run.keys() - {""}
    if all(result.status is Status.UNKNOWN for result in run.values()):
        # One alert says that the check is blind; one for each of its fifty disks would say no more.
        blind = run.get("", replace(sample, entity=""))
        unheard = (replace(blind, entity=entity) for entity in sorted(silent | alerting - run.keys()))
        return News((*run.values(), *unheard), (no_data_result(blind),), frozenset(), frozenset())
    if set(run) == {""} and sample.status is Status.ABSENT:
        absent = tuple(replace(sample, entity=entity) for entity in sorted(silent))
        return News((sample, *absent), (no_data_result(sample),), frozenset(), frozenset(without_data - {""}))
    missing = tuple(_missing(sample, entity, run) for entity in sorted(silent & policy.configured))
    results = (*run.values(), *missing)
    seen = {result.entity for result in results}
    # With "" silent although others spoke, the check as a whole is no longer blind.
    whole = () if "" in seen else (no_data_result(replace(sample, entity="", status=Status.OK)),)
    no_data = (*(no_data_result(result) for result in results), *whole)
    return News(results, no_data, frozenset(alerting - seen), frozenset(without_data - seen - {""}))


def _missing(sample: Result, entity: str, run: Mapping[str, Result]) -> Result:
    """The result of a configured entity that a run did not measure."""
    message = f"{entity} is not there; measured: {', '.join(sorted(run)[:5])}"
    return replace(sample, entity=entity, status=Status.UNKNOWN, readings=(), standing={}, message=message)
