"""What a tree refers to is found without parsing it, and never less than parsing it would find."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from backup.errors import CorruptData
from backup.reachable import references
from backup.tree import Node, encode_node, encode_tree

NAME = bytes(32)
ODD_NAMES = (
    b"plain", b'"content":["', b"content", b'"subtree":"', b"subtree", b"back\\slash", b"quote\"", b"\x01\xff", b"a<b",
    "发票".encode(), b"ab" * 32, b'content":null', b"\\u0063ontent",
)  # fmt: skip


def hexed(number: int) -> str:
    return f"{number:064x}"


def node(name: bytes, kind: str = "file", content: tuple[bytes, ...] | None = (), **more: Any) -> Node:
    return Node(name, kind, 0o644, 1, 1, 1, 0, 0, "root", "root", 1, 1, 1, 1, content=content, **more)


def ids(*numbers: int) -> tuple[bytes, ...]:
    return tuple(number.to_bytes(32) for number in numbers)


def parsed(tree: bytes) -> tuple[set[bytes], list[bytes]]:
    nodes: list[Mapping[str, Any]] = json.loads(tree)["nodes"]
    data = {content.encode() for item in nodes for content in item.get("content") or ()}
    return data, [item["subtree"].encode() for item in nodes if item.get("subtree")]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_whatever_files_are_called_all_that_a_tree_refers_to_is_found(name: bytes) -> None:
    nodes = [
        node(name, content=ids(1)), node(b"empty"), node(b"big", content=ids(2, 3, 4)), node(b"same", content=ids(1)),
        node(name, "dir", None, subtree=ids(5)[0]), node(name, "symlink", None, linktarget=name),
        node(b"x", content=ids(6), xattrs=(("user.content", b'"content":["'), ("subtree", name))),
    ]  # fmt: skip
    tree = encode_tree(map(encode_node, nodes))
    found = references(tree, NAME)
    assert (found.data, found.trees) == parsed(tree)


@pytest.mark.parametrize(
    "tree",
    [
        '{"nodes":[{"name":"a","content":["%s"],"subtree":"%s"}]}\n',
        '{"nodes":[{"name":"a","content": ["%s"],"subtree":"%s"}]}\n',
        '{"nodes":[{"name":"a","content":[ "%s"],"subtree":"%s"}]}\n',
        '{"nodes":[{"name":"a","content":["%s" ],"subtree":"%s"}]}\n',
        '{"nodes":[{"name":"a","content" :["%s"],"subtree":"%s"}]}\n',
        '{"nodes":[{"name":"a","content":["%s"],"subtree": "%s"}]}\n',
        '{"nodes":[{"name":"a","content":["%s"],"subtree" :"%s"}]}\n',
        '{"nodes":[{"name":"a","\\u0063ontent":["%s"],"subtree":"%s"}]}\n',
        '{"nodes":[{"name":"a","content":["%s"],"s\\u0075btree":"%s"}]}\n',
        '{"nodes":[{"name":"a","content":["%s"],"subtree":"%s"},{"subtree":null},{"content":[]}]}\n',
        '{"nodes":[{"subtree":"%.0s%s"},{"content":["' + hexed(1) + '" , "' + hexed(1) + '"]}]}\n',
        ' { "nodes" : [{"name":"a","content":["%s"],"subtree":"%s"}]}',
    ],
)
def test_a_tree_in_another_form_of_json_gives_the_same(tree: str) -> None:
    found = references((tree % (hexed(1), hexed(2))).encode(), NAME)
    assert found == ({hexed(1).encode()}, [hexed(2).encode()])


@pytest.mark.parametrize("tree", [b"", b"{}", b'{"nodes":[{"content":[7]}]}\n', b'{"nodes":[{"subtree":7}]}\n', b"[]"])
def test_what_is_no_tree_is_damage(tree: bytes) -> None:
    with pytest.raises(CorruptData, match="could not read tree 00000000"):
        references(tree, NAME)
