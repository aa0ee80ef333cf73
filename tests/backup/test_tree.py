import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.archiver import backup
from backup.errors import CorruptData
from backup.pack import BlobKind
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.local import LocalStorage
from backup.tree import (
    Node,
    as_text,
    content_of,
    encode_name,
    encode_node,
    encode_tree,
    format_time,
    go_mode,
    json_string,
    parse_node,
    parse_time,
    parse_tree,
    posix_mode,
    quote_name,
    split_tree,
    subtree_of,
    unquote_name,
)
from tests.backup.repositories import FakeClock, create
from tests.backup.trees import make_nasty_tree

Restic = Callable[..., subprocess.CompletedProcess[str]]
ID = bytes(range(32))


def trees_of(repository: Repository, root: bytes) -> dict[str, bytes]:
    """All trees below a root, by path, as they are stored."""
    repository.load_index()
    found: dict[str, bytes] = {}
    pending = [("", root)]
    while pending:
        path, name = pending.pop()
        found[path] = repository.load_blob(BlobKind.TREE, name)
        pending += [(f"{path}/{as_text(node.name)}", node.subtree) for node in parse_tree(found[path]) if node.subtree]
    return found


def test_our_trees_are_byte_for_byte_those_that_restic_writes(
    tmp_path: Path, clock: FakeClock, restic: Restic
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_nasty_tree(source, big_files=False)
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    report = backup(repository, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=0)
    assert not report.partial
    restic("backup", "--host", "other", str(source))
    ours, theirs = sorted(repository.snapshots(), key=lambda snapshot: snapshot.hostname == "other")
    our_trees, their_trees = (
        # the folders above the source are busy, and may change between the two runs
        {path: tree for path, tree in trees_of(repository, snapshot.tree).items() if path.startswith(str(source))}
        for snapshot in (ours, theirs)
    )
    assert len(our_trees) > 60
    assert our_trees == their_trees


@given(st.binary(min_size=1, max_size=40))
def test_any_name_survives_quoting_and_json(raw: bytes) -> None:
    text = as_text(raw)
    assert unquote_name(quote_name(text)) == raw
    node = Node(name=raw, type="file", content=())
    assert parse_node(encode_node(node)) == node


@given(st.binary(min_size=1, max_size=30), st.binary(max_size=30))
def test_splitting_a_tree_finds_every_node_whatever_names_and_attributes_it_has(first: bytes, second: bytes) -> None:
    names = sorted({first, second + b"}"})
    nodes = [
        Node(
            name=name, type="file", content=(ID,),
            xattrs=((as_text(name).encode("utf-8", "replace").decode(), second), ("user.b", b"")),
        )
        for name in names
    ]  # fmt: skip
    encoded = [encode_node(node) for node in nodes]
    pieces = split_tree(encode_tree(encoded))
    assert list(pieces.values()) == encoded
    assert list(pieces) == [encode_name(as_text(name)) for name in names]


def test_a_tree_in_another_writers_form_is_split_after_encoding_it_anew() -> None:
    data = b'{ "nodes": [ {"type": "file", "name": "a<b", "mtime": "2024-01-01T01:00:00+01:00", "content": []} ] }'
    assert list(split_tree(data)) == ['"a\\u003cb"']
    assert parse_node(split_tree(data)['"a\\u003cb"']).mtime_ns == parse_time("2024-01-01T00:00:00Z")


@given(st.integers(min_value=-62_135_596_800 * 10**9, max_value=253_402_300_799 * 10**9))
def test_a_time_survives_formatting(ns: int) -> None:
    assert parse_time(format_time(ns)) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
    ],
)
def test_a_time_is_written_as_go_does(ns: int, text: str) -> None:
    assert format_time(ns) == text


def test_years_that_no_format_holds_are_pressed_into_its_range() -> None:
    assert format_time(10**20 * 10).startswith("9999-12-31T23:59")
    assert parse_time("0000-01-01T00:00:00Z") == parse_time("0001-01-01T00:00:00Z")


def test_an_offset_is_read_as_the_instant_it_means() -> None:
    assert parse_time("2024-06-01T02:00:00.5+02:00") == parse_time("2024-06-01T00:00:00.5Z")
    with pytest.raises(ValueError, match="not an RFC 3339 time"):
        parse_time("yesterday")


@pytest.mark.parametrize("mode", [0o100644, 0o104755, 0o102755, 0o101644, 0o106711])
def test_a_mode_survives_gos_bits(mode: int) -> None:
    assert posix_mode(go_mode(mode)) == mode & 0o7777


def test_gos_type_bits_are_those_of_os_filemode() -> None:
    assert go_mode(0o041777) == 1 << 31 | 1 << 20 | 0o777
    assert go_mode(0o020666) == 1 << 26 | 1 << 21 | 0o666
    assert go_mode(0o120777) == 1 << 27 | 0o777


def test_strings_are_escaped_as_gos_json_encoder_does() -> None:
    assert json_string("<a & b>\u2028\x01\n\"\\") == '"\\u003ca \\u0026 b\\u003e\\u2028\\u0001\\n\\"\\\\"'
    assert json_string(as_text(b"x\xffy")) == '"x\\ufffdy"'
    assert json_string("\ufffd") == '"\ufffd"'


def test_a_link_target_that_is_no_text_keeps_its_bytes() -> None:
    node = Node(name=b"l", type="symlink", linktarget=b"to/\xff")
    assert '"linktarget":"to/\\ufffd","linktarget_raw":"dG8v/w=="' in encode_node(node)
    assert parse_node(encode_node(node)).linktarget == b"to/\xff"


def test_octal_escapes_and_null_attributes_of_other_writers_are_read() -> None:
    assert unquote_name("a\\101\\x42") == b"aAB"
    text = '{"name":"a","type":"file","extended_attributes":[{"name":"user.x","value":null}],"content":[]}'
    assert parse_node(text).xattrs == (("user.x", b""),)


def test_ids_are_found_in_an_encoded_node_without_reading_it() -> None:
    file = encode_node(Node(name=b"f", type="file", size=2, content=(ID, ID[::-1])))
    assert content_of(file) == [ID, ID[::-1]]
    assert content_of(encode_node(Node(name=b"f", type="file", content=()))) == []
    assert subtree_of(encode_node(Node(name=b"d", type="dir", subtree=ID))) == ID
    assert subtree_of(file) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"nodes":[{}]}', b'{"nodes":[1]}', b'{"nodes":[{"name":"a"}]}',
        b'{"nodes":[{"name":"\\\\q","type":"file"}]}',
        b'{"nodes":[{"name":"a","type":"file","content":["00"]}]}',
        b'{"nodes":[{"name":"a","type":"file","mtime":"x"}]}',
    ],
)  # fmt: skip
def test_what_is_no_tree_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptData, match="reading a tree"):
        parse_tree(data)


def test_nodes_are_sorted_by_raw_bytes(tmp_path: Path, repository: Repository, clock: FakeClock) -> None:
    names = [b"a", b"a\xff", "é".encode(), b"\xc3", b"B", "\uffee".encode(), "😀".encode()]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    backup(repository, FilesSource((str(tmp_path),)), job="j", host="h", clock=clock, workers=0)
    (snapshot,) = repository.snapshots()
    innermost = max(trees_of(repository, snapshot.tree).items())[1]
    assert [node.name for node in parse_tree(innermost)] == sorted(names)
