import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backup.errors import SourceError
from backup.sources.base import Enter, Files, Leaf
from backup.sources.files import FilesSource, open_path
from config.sources import FilesSource as FilesSettings

SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55\n"


def fill(root: Path, *paths: str) -> None:
    for path in paths:
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.encode())


def seen(source: FilesSource, root: Path) -> list[str]:
    """Paths below ``root`` that a walk gives, folders with a slash."""
    found = []
    with source.capture() as capture:
        for step in capture.walk():
            if isinstance(step, Files):
                folder = os.open(step.path, os.O_PATH)
                takes = capture.admission.takes
                taken = [name for name in step.names if takes(name, folder, os.lstat(name, dir_fd=folder))]
                os.close(folder)
                found += [os.path.join(step.path, name) for name in taken]
            elif isinstance(step, Leaf):
                found.append(os.path.join(step.path, step.name))
            elif isinstance(step, Enter):
                found.append(step.path + "/")
    prefix = f"{root}/"
    return [path.removeprefix(prefix) for path in found if path.startswith(prefix) and path != prefix]


def test_leaves_come_first_then_folders_each_in_the_order_of_raw_names(tmp_path: Path) -> None:
    fill(tmp_path, "b", "a", "d/x", "c/y", "B")
    assert seen(FilesSource((str(tmp_path),)), tmp_path) == ["B", "a", "b", "c/", "c/y", "d/", "d/x"]


def test_every_component_of_a_path_is_a_folder_of_its_own(tmp_path: Path) -> None:
    fill(tmp_path, "one/in/a", "two/b", "other/c")
    paths = (str(tmp_path / "one" / "in"), str(tmp_path / "two"))
    assert seen(FilesSource(paths), tmp_path) == ["one/", "one/in/", "one/in/a", "two/", "two/b"]


def test_a_path_below_another_one_is_walked_once(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/c")
    paths = (str(tmp_path / "a" / "b"), str(tmp_path / "a"))
    assert seen(FilesSource(paths), tmp_path) == ["a/", "a/b/", "a/b/c"]


def test_a_single_file_and_a_link_can_be_paths_themselves(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    (tmp_path / "link").symlink_to("a")
    assert seen(FilesSource((str(tmp_path / "a"), str(tmp_path / "link"))), tmp_path) == ["a", "link"]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (("*.tmp",), ["a", "cache/", "cache/b", "d/", "d/cache/", "d/cache/c", "d/e"]),
        (("cache/",), ["a", "x.tmp", "d/", "d/e", "d/y.tmp"]),
        (("d/cache",), ["a", "x.tmp", "cache/", "cache/b", "d/", "d/e", "d/y.tmp"]),
        (("*.tmp", "!y.tmp"), ["a", "cache/", "cache/b", "d/", "d/e", "d/y.tmp", "d/cache/", "d/cache/c"]),
        (("# comment", "", "d"), ["a", "x.tmp", "cache/", "cache/b"]),
    ],
)
def test_excludes_are_read_as_a_gitignore_in_each_path(
    tmp_path: Path, patterns: tuple[str, ...], left: list[str]
) -> None:
    fill(tmp_path, "a", "x.tmp", "cache/b", "d/cache/c", "d/e", "d/y.tmp")
    assert sorted(seen(FilesSource((str(tmp_path),), exclude=patterns), tmp_path)) == sorted(left)


def test_a_pattern_that_begins_with_a_slash_is_an_absolute_path(tmp_path: Path) -> None:
    fill(tmp_path, "one/cache/x", "two/cache/y")
    source = FilesSource((str(tmp_path / "one"), str(tmp_path / "two")), exclude=(f"{tmp_path}/one/cache",))
    assert seen(source, tmp_path) == ["one/", "two/", "two/cache/", "two/cache/y"]


def test_a_pattern_does_not_reach_the_folders_above_the_path(tmp_path: Path) -> None:
    fill(tmp_path, "tmp/data/a")
    assert seen(FilesSource((str(tmp_path / "tmp" / "data"),), exclude=("tmp/", "data")), tmp_path)[-1] == "tmp/data/a"


def test_of_a_cache_folder_only_the_tag_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, "cache/a", "cache/b/c", "no-cache/d")
    (tmp_path / "cache" / "CACHEDIR.TAG").write_bytes(SIGNATURE)
    (tmp_path / "no-cache" / "CACHEDIR.TAG").write_bytes(b"Signature: something else")
    kept = ["cache/", "cache/CACHEDIR.TAG", "no-cache/", "no-cache/CACHEDIR.TAG", "no-cache/d"]
    assert seen(FilesSource((str(tmp_path),)), tmp_path) == kept
    assert "cache/b/c" in seen(FilesSource((str(tmp_path),), exclude_caches=False), tmp_path)


def test_files_above_a_size_and_sockets_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(11))
    (tmp_path / "small").write_bytes(bytes(10))
    with socket.socket(socket.AF_UNIX) as server:
        previous = os.getcwd()
        os.chdir(tmp_path)  # a socket's address is short
        try:
            server.bind("socket")
        finally:
            os.chdir(previous)
        assert seen(FilesSource((str(tmp_path),), exclude_larger_than_bytes=10), tmp_path) == ["small"]


def test_staying_on_one_file_system_keeps_mount_points_as_empty_folders() -> None:
    with FilesSource(("/",), one_file_system=True, exclude=("/[!p]*",)).capture() as capture:
        found = [step.path for step in capture.walk() if isinstance(step, Enter)]
    assert found == ["/proc"]


def test_a_folder_that_is_swapped_for_a_link_is_a_problem_and_not_followed(tmp_path: Path) -> None:
    fill(tmp_path, "a/", "c", "elsewhere/secret")
    (tmp_path / "source").mkdir()
    fill(tmp_path / "source", "a/x", "c")
    with FilesSource((str(tmp_path / "source"),)).capture() as capture:
        names = []
        for step in capture.walk():
            names += step.names if isinstance(step, Files) else [getattr(step, "name", "")]
            if isinstance(step, Files) and step.names == ["c"]:
                (tmp_path / "source" / "a" / "x").unlink()
                (tmp_path / "source" / "a").rmdir()
                (tmp_path / "source" / "a").symlink_to(tmp_path / "elsewhere")
    assert "secret" not in names
    assert [problem.path for problem in capture.problems] == [str(tmp_path / "source" / "a")]


def test_a_folder_that_vanishes_during_the_walk_is_a_problem(tmp_path: Path) -> None:
    fill(tmp_path, "a/x", "b/", "c")
    with FilesSource((str(tmp_path),)).capture() as capture:
        for step in capture.walk():
            if isinstance(step, Files) and step.names == ["x"]:
                (tmp_path / "b").rmdir()
    assert [(problem.path, problem.reason) for problem in capture.problems] == [
        (str(tmp_path / "b"), "no such file or directory")
    ]


def test_a_source_of_which_nothing_is_there_fails(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder") as error, FilesSource(
        (str(tmp_path / "gone"),)
    ).capture():
        pass
    assert "mounted" in error.value.hint


def test_of_several_paths_one_may_be_missing_and_is_a_problem(tmp_path: Path) -> None:
    fill(tmp_path, "there/a")
    with FilesSource((str(tmp_path / "gone"), str(tmp_path / "there"))).capture() as capture:
        list(capture.walk())
    assert [problem.path for problem in capture.problems] == [str(tmp_path / "gone")]


def test_settings_become_a_source(tmp_path: Path) -> None:
    settings = FilesSettings(type="files", paths=[tmp_path / "b" / ".." / "a", tmp_path / "a"], exclude=["*.tmp"])
    source = FilesSource.from_settings(settings)
    assert source.paths == (str(tmp_path / "a"),)
    assert source.exclude == ("*.tmp",)


def test_a_path_longer_than_the_kernel_takes_is_opened(tmp_path: Path) -> None:
    names = ["n" * 200] * 30
    folder = os.open(tmp_path, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=folder)
        deeper = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    path = "/".join([str(tmp_path), *names, "bottom"])
    assert len(path) > 6000
    os.close(open_path(path, os.O_RDONLY))
    with pytest.raises(FileNotFoundError):
        open_path(path + "x", os.O_RDONLY)
    with FilesSource((str(tmp_path),)).capture() as capture:
        assert [step.names for step in capture.walk() if isinstance(step, Files)] == [["bottom"]]
    assert capture.problems == []


def test_what_this_user_may_not_read_is_a_problem_unless_it_is_to_be_left_out(tmp_path):
    (tmp_path / "open.txt").write_text("open")
    (tmp_path / "closed.txt").write_text("closed")
    (tmp_path / "closed.txt").chmod(0)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside.txt").write_text("inside")
    (tmp_path / "folder").chmod(0)
    tmp_path.chmod(0o755)
    script = (
        "import os, sys\n"
        "from backup.sources.files import FilesSource\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for skip in (False, True):\n"
        "    with FilesSource((sys.argv[1],), skip_unreadable=skip).capture() as capture:\n"
        "        names = []\n"
        "        for step in capture.walk():\n"
        "            for name in getattr(step, 'names', []):\n"
        "                folder = os.open(step.path, os.O_PATH)\n"
        "                try:\n"
        "                    if capture.admission.takes(name, folder, os.lstat(name, dir_fd=folder)):\n"
        "                        names.append(name)\n"
        "                except PermissionError as error:\n"
        "                    capture.left_out += capture.admission.forgives(error)\n"
        "        print(names, [p.path.rsplit('/')[-1] for p in capture.problems], capture.left_out)\n"
    )
    for folder in tmp_path.parents:
        if "pytest-of" in str(folder):
            folder.chmod(0o755)
    root = Path(__file__).resolve().parents[2]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    (tmp_path / "folder").chmod(0o755)
    assert done.returncode == 0, done.stderr
    plain, skipping = done.stdout.splitlines()
    assert plain == "['closed.txt', 'open.txt'] ['folder'] 0", "the file's own trouble shows when it is opened"
    assert skipping == "['open.txt'] [] 2"
