"""Stand-ins of zfs, LVM, btrfs and mount: they keep books in a JSON file instead of touching the machine, and record
what they were asked. Run as ``python snapshot_tools.py TOOL ARGUMENTS``; $STAND_IN names the file.

They know just what the hook scripts in deploy/hooks ask, with the answers and exit statuses that the real tools give
by their manual pages; anything else ends with status 99.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

Books = dict[str, Any]


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def findmnt(books: Books, arguments: list[str]) -> int:
    _, _, column, _, place = arguments
    for mount in reversed(books["mounts"]):
        if mount["TARGET"] == place:
            say(mount[column])
            return 0
    return 1


def mountpoint(books: Books, arguments: list[str]) -> int:
    return 0 if any(mount["TARGET"] == arguments[-1] for mount in books["mounts"]) else 32


def mount(books: Books, arguments: list[str]) -> int:
    if arguments[:1] == ["-o"] and arguments[1].startswith("remount"):
        return 0
    if books.get("mount fails"):
        return 32
    *_, source, target = arguments
    fstype = arguments[arguments.index("-t") + 1] if "-t" in arguments else "btrfs"
    books["mounts"].append({"SOURCE": source, "TARGET": target, "FSTYPE": fstype})
    return 0


def umount(books: Books, arguments: list[str]) -> int:
    if books.get("busy"):
        return 32
    books["mounts"] = [mount for mount in books["mounts"] if mount["TARGET"] != arguments[-1]]
    return 0


def zfs(books: Books, arguments: list[str]) -> int:
    snapshots: dict[str, str] = books["snapshots"]
    match arguments:
        case ["list", "-H", "-t", "snapshot", "-o", "name", name]:
            return 0 if name in snapshots else 1
        case ["get", "-H", "-o", "value", "keepwatch:made", name]:
            say(snapshots[name])
        case ["snapshot", "-o", "keepwatch:made=yes", name]:
            snapshots[name] = "yes"
        case ["destroy", name]:
            del snapshots[name]
        case _:
            return 99
    return 0


def lvs(books: Books, arguments: list[str]) -> int:
    _, _, field, name = arguments
    name = name.removeprefix("/dev/mapper/").removeprefix("/dev/")
    volume = books["volumes"].get(books["devices"].get(name, name))
    if volume is None:
        return 5
    say(f"  {volume.get(field, '')}")
    return 0


def lvcreate(books: Books, arguments: list[str]) -> int:
    origin = arguments[-1]
    name = f"{origin.split('/')[0]}/{arguments[arguments.index('--name') + 1]}"
    tag = arguments[arguments.index("--addtag") + 1]
    books["volumes"][name] = {
        "lv_name": name.split("/")[1], "lv_full_name": name, "lv_tags": tag, "origin": origin.split("/")[1]
    }  # fmt: skip
    return 0


def lvremove(books: Books, arguments: list[str]) -> int:
    del books["volumes"][arguments[-1]]
    return 0


def btrfs(books: Books, arguments: list[str]) -> int:
    subvolumes: dict[str, Any] = books["subvolumes"]
    match arguments:
        case ["subvolume", "show", path] if path in subvolumes:
            say(os.path.basename(path))
            for name, value in subvolumes[path].items():
                say(f"\t{name}: \t\t\t{value}")
        case ["subvolume", "show", _]:
            return 1
        case ["subvolume", "snapshot", "-r", path, target]:
            subvolumes[target] = {"UUID": "s", "Parent UUID": subvolumes[path]["UUID"], "Flags": "readonly"}
            Path(target).mkdir()
        case ["subvolume", "delete", path]:
            del subvolumes[path]
            Path(path).rmdir()
        case _:
            return 99
    return 0


def stat(books: Books, arguments: list[str]) -> int:
    path = arguments[-1]
    say(next((mount["SOURCE"] for mount in books["mounts"] if mount["TARGET"] == path), path))
    return 0


ASKING = ("findmnt", "mountpoint", "lvs", "stat")
"""What changes nothing is not recorded."""


def main() -> int:
    tool, *arguments = sys.argv[1:]
    file = Path(os.environ["STAND_IN"])
    books = json.loads(file.read_text(encoding="utf-8"))
    asks = tool in ASKING or arguments[:1] in (["list"], ["get"]) or arguments[1:2] == ["show"]
    if not asks:
        books["acts"].append(" ".join([tool, *arguments]))
    status: int = globals()[tool](books, arguments)
    file.write_text(json.dumps(books), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
