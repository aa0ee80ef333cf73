"""What checks remember over a restart: whole or not at all, and never in the way."""

from pathlib import Path

import pytest

from monitor.memory import Memories


def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    Memories(tmp_path / "new").save("log erp", {"offset": 7}, durable=True)
    assert Memories(tmp_path / "new").load("log erp") == {"offset": 7}
    assert Memories(tmp_path / "new").load("log other") == {}


def test_names_that_look_alike_are_kept_apart(tmp_path: Path) -> None:
    names = ["a b", "a-b", "A b", "数据", "日志", "x" * 300, "x" * 301]
    memories = Memories(tmp_path)
    for number, name in enumerate(names):
        memories.save(name, {"number": number})
    again = Memories(tmp_path)
    assert [again.load(name)["number"] for name in names] == list(range(len(names)))


def test_a_reader_without_the_right_to_write_changes_nothing(tmp_path: Path) -> None:
    Memories(tmp_path).save("log erp", {"offset": 7})
    reader = Memories(tmp_path, may_write=False)
    reader.save("log erp", {"offset": 9})
    assert (reader.load("log erp"), Memories(tmp_path).load("log erp")) == ({"offset": 9}, {"offset": 7})


def test_what_could_not_be_written_is_written_the_next_time(tmp_path: Path) -> None:
    folder = tmp_path / "memories"
    folder.write_text("in the way", encoding="utf-8")
    memories = Memories(folder)
    for _ in range(2):
        with pytest.raises(OSError, match="memories"):
            memories.save("log erp", {"offset": 7})
    folder.unlink()
    memories.save("log erp", {"offset": 7})
    assert Memories(folder).load("log erp") == {"offset": 7}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"value": 3}', b"\xff" * 100])
def test_a_damaged_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    Memories(tmp_path).save("log erp", {"offset": 7})
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert Memories(tmp_path).load("log erp") == {}
    assert [left.suffix for left in tmp_path.iterdir()] == [".corrupt"]
