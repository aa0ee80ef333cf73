"""What the index costs: bytes a blob, and the time to load and to look up, at ten million blobs.

``python -m tests.benchmarks.index [--blobs 10000000] [--most-bytes 100]``. The blobs have random ids and lie 2,500 to a
pack, as small files do. Memory is what the process grew by (USS), beside what the index says of itself. Loading is
measured through index files of 50,000 blobs in memory: sealed JSON opened, parsed and entered; without the disk. Exits
with 1 when a blob costs more than ``--most-bytes``.
"""

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random

import psutil

from backup.index import FLUSH_BLOBS, Index, PackListing, format_index
from backup.keys import KdfParameters
from backup.pack import BlobEntry, BlobKind
from backup.repository import Repository
from backup.storage.base import FileKind
from backup.unpacked import UnpackedFiles
from tests.backup.storages import MemoryStorage

PACK_BLOBS = 2_500
SEALED_BYTES = 3_000
LOOKED_UP = 200_000


def listings(blobs: int, random: Random) -> Iterator[PackListing]:
    """Give packs of blobs with random ids."""
    for _ in range(blobs // PACK_BLOBS):
        ids = random.randbytes(32 * PACK_BLOBS)
        entries = [
            BlobEntry(BlobKind.DATA, ids[32 * at : 32 * at + 32], at * SEALED_BYTES, SEALED_BYTES, 2 * SEALED_BYTES)
            for at in range(PACK_BLOBS)
        ]
        yield PackListing(random.randbytes(32).hex(), entries)


def own_bytes() -> int:
    """Memory that only this process has."""
    gc.collect()
    return int(psutil.Process().memory_full_info().uss)


def measure_size(blobs: int) -> dict[str, float]:
    """Enter that many blobs, and look some up."""
    random, before, sample = Random(1), own_bytes(), []
    index, began = Index(), time.perf_counter()
    index.reserve(blobs)
    for pack, entries in listings(blobs, random):
        index.add_listing(pack, entries)
        sample.append(entries[random.randrange(PACK_BLOBS)].id)
    entered = time.perf_counter() - began
    grown = own_bytes() - before - sum(map(sys.getsizeof, sample))
    here = [random.choice(sample) for _ in range(LOOKED_UP)]
    missing = [random.randbytes(32) for _ in range(LOOKED_UP)]
    return {
        "blobs": len(index),
        "bytes_a_blob_of_the_process": round(grown / len(index), 1),
        "bytes_a_blob_as_the_index_says": round(index.memory_bytes / len(index), 1),
        "entered_a_second": round(len(index) / entered),
        "found_a_second": round(look_up(index, here, found=True)),
        "missed_a_second": round(look_up(index, missing, found=False)),
    }


def look_up(index: Index, ids: list[bytes], *, found: bool) -> float:
    """Look-ups a second; each is checked."""
    began = time.perf_counter()
    hits = sum(index.contains(BlobKind.DATA, name) for name in ids)
    took = time.perf_counter() - began
    assert hits == (len(ids) if found else 0)
    return len(ids) / took


def measure_load(files: int) -> dict[str, float]:
    """Load an index from some full index files."""
    storage, random = MemoryStorage(), Random(2)
    repository = Repository.create(storage, "benchmark", clock=now, kdf=KdfParameters(1024, 8, 1))
    writer = UnpackedFiles(storage, repository.key)
    for _ in range(files):
        writer.save(FileKind.INDEX, format_index(listings(FLUSH_BLOBS, random)))
    size = sum(file.size for file in storage.list(FileKind.INDEX))
    began = time.perf_counter()
    index = repository.load_index()
    took = time.perf_counter() - began
    return {"loaded_a_second": round(len(index) / took), "stored_bytes_a_blob": round(size / len(index), 1)}


def now() -> datetime:
    return datetime.now(UTC)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blobs", type=int, default=10_000_000)
    parser.add_argument("--most-bytes", type=float, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure_size(arguments.blobs) | measure_load(4) | {"load_average": round(os.getloadavg()[0], 1)}
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.writelines(f"{key.replace('_', ' '):32} {value:,}\n" for key, value in figures.items())
    return int(figures["bytes_a_blob_of_the_process"] > arguments.most_bytes)


if __name__ == "__main__":
    sys.exit(main())
