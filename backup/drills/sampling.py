"""What a drill chooses: which snapshot, which files, which moment. Always by a seed, so that it can be chosen again."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from backup.errors import SnapshotMissing
from backup.repository import Repository
from backup.restore_plan import RestorePlan
from backup.snapshot import Snapshot, matches

OLDEST, RANDOM = "oldest", "random"


def choose_snapshot(repository: Repository, wish: str, tags: Sequence[str], seed: int) -> Snapshot:
    """Return the snapshot that is meant: by id, prefix or ``latest``, the oldest one kept, or any by the seed.

    Raises SnapshotMissing.
    """
    if wish not in (OLDEST, RANDOM):
        return repository.find_snapshot(wish, tags=list(tags))
    mine = (s for s in repository.snapshots() if matches(s, tags=list(tags)) and not s.is_log)
    found = sorted(mine, key=lambda s: (s.time, s.id))
    if not found:
        raise SnapshotMissing(f"could not find the {wish} snapshot: there is none like that")
    return found[0] if wish == OLDEST else random.Random(seed).choice(found)  # noqa: S311 - to be repeated


def sample(plan: RestorePlan, share: float, seed: int) -> RestorePlan:
    """Return a plan for about ``share`` of the files, one at least, and the folders that they need.

    Of hard links, only what is written itself is drawn.
    """
    draw = random.Random(seed)  # noqa: S311 - not for secrets: the same seed has to give the same sample
    places = [(number, place) for number, folder in enumerate(plan.folders) for place in range(len(folder.leaves))]
    big = list(range(len(plan.big_files)))
    count = min(len(places) + len(big), max(1, round((len(places) + len(big)) * share)))
    drawn = draw.sample([*places, *((-1, number) for number in big)], count)
    chosen: dict[int, list[int]] = {}
    for number, place in drawn:
        chosen.setdefault(number, []).append(place)
    big_files = tuple(plan.big_files[number] for number in sorted(chosen.pop(-1, [])))
    needed = {b""}
    for path in [plan.folders[number].path for number in chosen] + [_above(path) for path, _ in big_files]:
        while path and path not in needed:
            needed.add(path)
            path = _above(path)
    folders, size = [], sum(node.size for _, node in big_files)
    for number, folder in enumerate(plan.folders):
        if folder.path not in needed:
            continue
        kept = sorted(chosen.get(number, []))
        sizes = tuple(folder.sizes[place] for place in kept)
        size += sum(sizes)
        folders.append(replace(folder, leaves=tuple(folder.leaves[place] for place in kept), sizes=sizes))
    return replace(
        plan, folders=tuple(folders), big_files=big_files, links=(), files=count, bytes=size, existing=0, refused=()
    )


def choose_moment(first: datetime, last: datetime, seed: int) -> datetime:
    """Return a moment between the two, to the second; ``first`` when they are no second apart."""
    seconds = int((last - first).total_seconds())
    return first + timedelta(seconds=random.Random(seed).randint(0, max(0, seconds)))  # noqa: S311


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
