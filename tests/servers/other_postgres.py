"""PostgreSQL of other releases of Debian, beside the one that is installed: for campaigns, as root on Debian.

``programs(17)`` gives the folder with its programs. The packages and all libraries that they need come from the mirror
that this machine's own apt uses, with apt's own check of signatures, and are unpacked below a folder of their own:
apt's state and the installed system are left alone. Each program is told to use that folder's loader and libraries, so
that it runs like any other, as any user; PostgreSQL finds the rest from where its programs lie.
"""

import fcntl
import glob
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SUITES = {13: "bullseye", 17: "trixie"}
"""Releases of Debian, by the version of PostgreSQL that they have."""
CACHE = Path("/var/tmp/keepwatch-postgres")
"""Servers run as ``nobody``, who may not enter root's home."""
_DONE = "unpacked"
_MIRROR = "$(REPO_URI) $(CODENAME) $(COMPONENT)"


class NotToBeHadError(Exception):
    """Why there is no such PostgreSQL here."""


def programs(major: int) -> Path:
    """Return the folder of the programs, unpacked once for all. Raises NotToBeHadError."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotToBeHadError(f"PostgreSQL {major} is unpacked from Debian's {SUITES[major]}: by root, on Debian")
    CACHE.mkdir(mode=0o755, exist_ok=True)
    if CACHE.stat().st_uid != 0 or CACHE.is_symlink():
        raise NotToBeHadError(f"{CACHE} is not root's: remove it")
    root = CACHE / str(major)
    with (CACHE / f"{major}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / _DONE).exists():
            shutil.rmtree(root, ignore_errors=True)
            _unpack(major, root)
            (root / _DONE).touch()
    return root / f"usr/lib/postgresql/{major}/bin"


def _unpack(major: int, root: Path) -> None:
    mirror, ours = _mirror()
    packages = _download(mirror, SUITES[major], root / "packages", [f"postgresql-{major}", "libc6"])
    for package in packages:
        _run(["dpkg-deb", "--extract", package, root])
    tools = root / "tools"
    for package in _download(mirror, ours, root / "packages", ["patchelf"], alone=True):
        _run(["dpkg-deb", "--extract", package, tools])
    shutil.rmtree(root / "packages")
    _settle(root, tools / "usr/bin/patchelf", root / f"usr/lib/postgresql/{major}/bin")


def _mirror() -> tuple[str, str]:
    """Tell from where this machine installs which release of Debian."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    for line in _run(["apt-get", "indextargets", "--format", _MIRROR, "Created-By: Packages"]).splitlines():
        address, codename, component = line.split(" ", 2)
        if (codename, component) == (release, "main"):
            return address, release
    raise NotToBeHadError(f"apt on this machine has no mirror of Debian {release}")


def _download(mirror: str, suite: str, folder: Path, names: Sequence[str], *, alone: bool = False) -> list[str]:
    """Let apt download packages, and all they need unless ``alone``, as if nothing were installed."""
    place = folder / suite
    for made in ("lists/partial", "archives/partial"):
        (place / made).mkdir(parents=True)
    (place / "status").touch()
    (place / "sources.list").write_text(f"deb {mirror} {suite} main\n")
    apt = ["apt-get", "-qq"]
    for option in (
        f"Dir::State={place}", f"Dir::State::lists={place}/lists", f"Dir::State::status={place}/status",
        f"Dir::Cache={place}", f"Dir::Etc::sourcelist={place}/sources.list", "Dir::Etc::sourceparts=-",
        "APT::Install-Recommends=false", "APT::Sandbox::User=root", "Acquire::Languages=none",
    ):  # fmt: skip
        apt += ["-o", option]
    _run([*apt, "update"])
    if alone:
        _run([*apt, "download", *names], folder=place / "archives")
    else:
        _run([*apt, "-y", "--download-only", "install", *names])
    return sorted(glob.glob(f"{place}/archives/*.deb"))


def _settle(root: Path, patchelf: Path, folder: Path) -> None:
    """Write the folder's own loader and libraries into its programs."""
    (loader,) = [*root.glob("lib/*/ld-linux*.so.?"), *root.glob("usr/lib/*/ld-linux*.so.?")]
    triplet = loader.parent.name
    libraries = f"{root}/lib/{triplet}:{root}/usr/lib/{triplet}"
    for program in sorted(folder.iterdir()):
        with program.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        _run([patchelf, "--set-interpreter", loader, "--force-rpath", "--set-rpath", libraries, program])
    _run([folder / "postgres", "--version"])


def _run(command: Sequence[str | Path], *, folder: Path | None = None) -> str:
    done = subprocess.run(
        [os.fspath(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=600, env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}, check=False,
    )  # fmt: skip
    if done.returncode:
        words = " ".join(map(str, command[:1] if len(command) > 12 else command))
        raise NotToBeHadError(f"{words}: exit status {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout
