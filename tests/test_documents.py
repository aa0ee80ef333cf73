"""The documents say what is so: the layout names what is there, links lead somewhere, examples are good settings."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from config.loading import load
from keepwatch.cli.app import make_app

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def layout() -> list[Path]:
    """Every path that the README's code-layout block names."""
    (block,) = re.findall(r"^```\n(keepwatch/ .*?)^```$", text("README.md"), re.DOTALL | re.MULTILINE)
    paths, room = [], Path()
    for line in block.splitlines():
        names = [name.strip() for name in line[:28].split(",")]
        if not line.startswith(" "):
            room = ROOT / names[0]
            paths.append(room)
        else:
            paths += [room / name for name in names]
    return paths


def test_each_path_of_the_layout_is_there() -> None:
    assert len(layout()) > 40
    assert [path for path in layout() if not path.exists()] == []


def test_each_folder_of_the_rooms_stands_in_the_layout() -> None:
    folders = {p.parent for room in ("keepwatch", "monitor", "backup", "config") for p in (ROOT / room).rglob("*.py")}
    assert folders - set(layout()) == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_link_leads_to_a_file(name: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text(name))
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_path_in_code_style_is_there(name: str) -> None:
    named = re.findall(r"`((?:keepwatch|monitor|backup|config|deploy|tests|docs)/[\w./-]*)`", text(name))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_example_settings_are_good(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", text("README.md"), re.DOTALL)
    file = tmp_path / "keepwatch.toml"
    file.write_text(example, encoding="utf-8")
    assert load(file, environ={"MAIL_PASSWORD": "x"}).jobs["documents"].rpo


def help_of(*command: str) -> str:
    if command == ("drill",):
        command = ("drill", "run")  # which it is short for
    done = CliRunner().invoke(make_app(), [*command, "--help"])
    assert done.exit_code == 0, (command, done.output)
    return done.output


def test_each_command_and_option_that_the_documents_and_runbooks_name_exists() -> None:
    pages = [text("README.md"), *(p.read_text(encoding="utf-8") for p in (ROOT / "deploy/runbooks").glob("*.md"))]
    named: dict[tuple[str, ...], set[str]] = {}
    for line in (code for page in pages for code in re.findall(r"`keepwatch ([a-z][^`]*)`", page)):
        command = re.match(r"(?:(?:config|wal) [a-z]+|drill log|[a-z]+)", line)
        assert command
        named.setdefault(tuple(command[0].split()), set()).update(re.findall(r"--[a-z-]+", line))
    assert len(named) > 8
    there = set(re.findall(r"^ +([a-z]+) ", help_of(), re.MULTILINE))
    assert {command[0] for command in named} - there == set()
    for command, options in named.items():
        assert options - set(re.findall(r"--[a-z-]+", help_of(*command))) == set(), command


def test_each_make_target_that_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = {word for name in DOCUMENTS for word in re.findall(r"(?:^|`)make ([a-z]+)", text(name), re.MULTILINE)}
    assert {"run", "test", "demo", "lint", "bench", "install", "campaign"} <= targets
    assert named - targets == set()


def test_the_picture_is_small_enough_to_load_at_once() -> None:
    assert (ROOT / "docs/page.png").stat().st_size < 300_000
