"""Folders for tests: one with everything that a file system can hold, and a picture of a folder to compare by."""

import os
import stat
from pathlib import Path

NASTY_NAMES = (
    b"plain.txt", b"with space", b'quo"te', b"back\\slash", b"tab\there", b"new\nline", b"bell\a-vt\v-esc\x1b-del\x7f",
    b"\xff\xfe-not-utf8", b"half-\xe4\xb8", b"\xed\xa0\x80-surrogate", "发票-2025.pdf".encode(), "é-nfc".encode(),
    "e\u0301-nfd".encode(), "😀".encode(), "nbsp\u00a0x".encode(), "shy\u00adx".encode(), "zwsp\u200bx".encode(),
    "line\u2028sep".encode(), "private\ue000use".encode(), "real\ufffdreplacement".encode(), b"<html>&'`$(rm)",
    b"a},{\"name\":\"b", b"-rf", b"~", b"%s%n", b".hidden", b"...", b"x" * 255, "nel\u0085x".encode(),
)  # fmt: skip
"""Nothing above U+FFFF but what every Unicode table since 2010 agrees on."""


def make_nasty_tree(root: Path, *, big_files: bool = True) -> None:
    """Fill ``root`` with every kind of entry that this user may make on this file system.

    Without ``big_files``, none is large enough to be cut.
    """
    top = os.fsencode(root)
    names = os.path.join(top, b"names")
    os.makedirs(names)
    for number, name in enumerate(NASTY_NAMES):
        with open(os.path.join(names, name), "wb") as file:
            file.write(b"content %d of " % number + name)
    modes = root / "modes"
    modes.mkdir()
    for mode in (0o644, 0o400, 0o755, 0o4755, 0o2755, 0o1644, 0o6711):
        path = modes / f"{mode:04o}"
        path.write_bytes(b"x")
        path.chmod(mode)
    for mode in (0o700, 0o1777, 0o2775):
        folder = modes / f"folder-{mode:04o}"
        folder.mkdir()
        folder.chmod(mode)
    _make_kinds(root / "kinds")
    sizes = root / "sizes"
    sizes.mkdir()
    for size in (0, 1, 4095, 4096, (512 << 10) - 1, 512 << 10):
        (sizes / str(size)).write_bytes(_content(size))
    if big_files:
        for size in ((512 << 10) + 1, 3 << 20):
            (sizes / str(size)).write_bytes(_content(size))
        with open(sizes / "sparse", "wb") as file:
            file.truncate(5 << 20)
            file.seek(2 << 20)
            file.write(b"in the middle")
    times = root / "times"
    times.mkdir()
    for moment in (0, 1, 1_600_000_000 * 10**9, 1_700_000_000_123_456_789, 1_700_000_000_120_000_000, -1_500_000_000):
        path = times / f"{moment}"
        path.write_bytes(b"t")
        os.utime(path, ns=(moment, moment))
    os.utime(times, ns=(1_500_000_000_000_000_000, 1_500_000_000_000_000_001))
    deep = top
    for level in range(60):
        deep = os.path.join(deep, b"deep%d" % level)
    os.makedirs(deep)
    with open(os.path.join(deep, b"bottom"), "wb") as file:
        file.write(b"here")


def _make_kinds(kinds: Path) -> None:
    (kinds / "empty folder").mkdir(parents=True)
    (kinds / "first").write_bytes(b"linked")
    os.link(kinds / "first", kinds / "second")
    os.link(kinds / "first", kinds / "empty folder" / "third")
    os.symlink("first", kinds / "symlink")
    os.symlink("/nowhere/<at & all>", kinds / "dangling")
    os.utime(kinds / "dangling", ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    os.mkfifo(kinds / "fifo", 0o640)
    xattrs = {"user.note": b"hello \x00 world", "user.another": b"2", "user.empty": b""}
    for place in (kinds / "first", kinds / "empty folder"):
        for name, value in xattrs.items():
            os.setxattr(place, name, value)
    if os.geteuid() == 0:
        os.chown(kinds / "first", 12345, 54321)
        os.chown(kinds / "symlink", 1, 2, follow_symlinks=False)
        os.mknod(kinds / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(kinds / "zero-device", stat.S_IFBLK | 0o600, os.makedev(0, 0))


def _content(size: int) -> bytes:
    """Bytes that do not repeat within a chunk and compress somewhat."""
    return b"".join(b"%d, " % (number * number) for number in range(size // 6 + 1))[:size]


def picture(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Describe everything below ``root`` but the root itself: path to type, mode, owner, time, content and so on.

    Hard links show by the first path of their group. Owners are left out for anyone but root, who cannot restore them.
    """
    seen: dict[tuple[int, int], bytes] = {}
    found: dict[bytes, tuple[object, ...]] = {}
    top = os.fsencode(root)
    for folder, folders, files in sorted(os.walk(top)):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            relative = os.path.relpath(path, top)
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                content = status.st_rdev
            linked = None if kind == stat.S_IFDIR else seen.setdefault((status.st_ino, status.st_dev), relative)
            names = os.listxattr(path, follow_symlinks=False)
            xattrs = tuple(sorted((key, os.getxattr(path, key, follow_symlinks=False)) for key in names))
            owner = (status.st_uid, status.st_gid) if os.geteuid() == 0 else None
            found[relative] = (kind, stat.S_IMODE(status.st_mode), owner, status.st_mtime_ns, linked, xattrs, content)
    return found
