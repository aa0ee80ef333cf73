"""Makes the trees that the engine is measured on: the same bytes for the same arguments, on every machine.

``python -m tests.benchmarks.trees DIRECTORY [--big-mib 2048] [--small 100000] [--seed 7]`` makes

* ``big/``: four files, half of their bytes log-like text that compresses about 4:1, half random;
* ``small/``: JSON invoices of 0.5 to 12 KiB, 200 to a folder, 25 such folders in each folder above.

``--touch PERCENT`` rewrites that share of ``small/`` instead, and inserts 1,000 bytes into the middle of a text file
of ``big/``. What the files say follows from Python's ``random`` and the order in which it is asked, so that figures
taken at different times are of the same work.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

_WORDS = (
    "invoice", "amount", "tax", "seller", "buyer", "date", "code", "number", "check", "valid", "total", "item",
    "项目", "发票", "金额", "税额", "Beijing", "2025",
)  # fmt: skip
_MIB = 1 << 20
_PARAGRAPHS = 64
_FILES_A_FOLDER = 200
_FOLDERS_A_FOLDER = 25


def make(top: Path, *, big_mib: int, small: int, seed: int = 7) -> None:
    """Make ``big/`` of about ``big_mib`` MiB and ``small/`` of ``small`` files below ``top``."""
    random = Random(seed)
    make_big(top / "big", big_mib, random)
    make_small(top / "small", small, random)


def make_big(root: Path, mib: int, random: Random) -> None:
    """Make two text and two random files, a quarter of ``mib`` MiB each."""
    root.mkdir(parents=True, exist_ok=True)
    paragraphs = [_words(random, 3000).encode() for _ in range(_PARAGRAPHS)]
    each = mib * _MIB // 4
    for number in range(2):
        with (root / f"text{number}.log").open("wb") as file:
            file.writelines(_rows(random, paragraphs, each))
        with (root / f"random{number}.bin").open("wb") as file:
            file.writelines(random.randbytes(_MIB) for _ in range(each // _MIB))


def _rows(random: Random, paragraphs: list[bytes], size: int) -> Iterator[bytes]:
    written = 0
    while written < size:
        paragraph = random.choice(paragraphs)
        row = b"%012d %s\n" % (random.randrange(10**12), paragraph[random.randrange(2000) :])
        written += len(row)
        yield row


def make_small(root: Path, count: int, random: Random) -> None:
    """Make ``count`` invoices."""
    for number in range(count):
        file = _place(root, number)
        if number % _FILES_A_FOLDER == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_invoice(random, number))


def touch(top: Path, percent: float, *, seed: int = 7) -> int:
    """Rewrite a share of ``small/``, at least one file, and insert into ``big/text0.log``; gives how many."""
    random = Random(seed)
    files = sorted((top / "small").rglob("*.json"))
    chosen = random.sample(files, max(1, int(len(files) * percent / 100)))
    for file in chosen:
        file.write_bytes(_invoice(random, random.randrange(10**6)))
    text = top / "big" / "text0.log"
    if text.exists():
        content = text.read_bytes()
        middle = len(content) // 3
        beside = text.with_suffix(".tmp")
        beside.write_bytes(content[:middle] + random.randbytes(1000) + content[middle:])
        beside.replace(text)
    return len(chosen)


def _words(random: Random, count: int) -> str:
    return " ".join(random.choices(_WORDS, k=count))


def _invoice(random: Random, number: int) -> bytes:
    # the number of rows is asked for before the rows
    rows = ",".join(_row(random) for _ in range(random.randrange(4, 80)))
    return f'{{"number":{number},"rows":[{rows}]}}'.encode()


def _row(random: Random) -> str:
    return f'{{"item":"{_words(random, 6)}","amount":{random.random() * 1e4:.2f}}}'


def _place(root: Path, number: int) -> Path:
    folder = number // _FILES_A_FOLDER
    return root / f"{folder // _FOLDERS_A_FOLDER:03d}" / f"{folder:05d}" / f"invoice-{number:07d}.json"


def main() -> int:
    """Make or touch trees from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--big-mib", type=int, default=2048)
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--touch", type=float, metavar="PERCENT")
    arguments = parser.parse_args()
    if arguments.touch is not None:
        touch(arguments.directory, arguments.touch, seed=arguments.seed)
    else:
        make(arguments.directory, big_mib=arguments.big_mib, small=arguments.small, seed=arguments.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
