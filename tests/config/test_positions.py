"""The scanner of TOML positions against tomllib: every path that tomllib finds, at a line where its key stands."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from config import default
from config.positions import positions


def paths(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if at:
        yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*at, index))


def test_tables_dotted_keys_arrays_and_strings_have_their_lines() -> None:
    text = '''\
# a comment with [brackets] and = signs
title = "x # no comment"
[a.b]
text = """
fake = 1
[fake]
a quote " and two "" and an escaped \\""" within"""""
raw = \'\'\'
[[fake]] it's
\'\'\'
c.d = [ 1, # [comment]
  { k = 'a]', "q r" = [true,
    2] },

  1979-05-27 07:32:00,
]
[[checks]]
name = "one"
   [[ checks ]]   # spaced
  name = "two"
[checks.sub]
z = {}
[[checks.deep]]
"y.\\u007a" = 'C:\\dir'
[checks.deep.er]
x . "y" = -inf
'''
    assert positions(text) == {
        ("title",): 2,
        ("a",): 3, ("a", "b"): 3, ("a", "b", "text"): 4, ("a", "b", "raw"): 8,
        ("a", "b", "c"): 11, ("a", "b", "c", "d"): 11, ("a", "b", "c", "d", 0): 11, ("a", "b", "c", "d", 1): 12,
        ("a", "b", "c", "d", 1, "k"): 12, ("a", "b", "c", "d", 1, "q r"): 12,
        ("a", "b", "c", "d", 1, "q r", 0): 12, ("a", "b", "c", "d", 1, "q r", 1): 13, ("a", "b", "c", "d", 2): 15,
        ("checks",): 17, ("checks", 0): 17, ("checks", 0, "name"): 18,
        ("checks", 1): 19, ("checks", 1, "name"): 20, ("checks", 1, "sub"): 21, ("checks", 1, "sub", "z"): 22,
        ("checks", 1, "deep"): 23, ("checks", 1, "deep", 0): 23, ("checks", 1, "deep", 0, "y.z"): 24,
        ("checks", 1, "deep", 0, "er"): 25, ("checks", 1, "deep", 0, "er", "x"): 26,
        ("checks", 1, "deep", 0, "er", "x", "y"): 26,
    }  # fmt: skip
    assert set(paths(tomllib.loads(text))) == set(positions(text))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_ends_of_both_kinds_count_once(ending: str) -> None:
    assert positions(ending.join(["", "a = 1", "[b]", "c = [", "1]"]))["b", "c", 0] == 5


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing", "a = 1", "[a]", "[[a]]", "a = []", "a = {}"])
def test_short_documents_are_read_to_their_end(text: str) -> None:
    assert set(positions(text)) == set(paths(tomllib.loads(text)))


def test_the_embedded_default_is_known_whole() -> None:
    text = default.text(Path("/var/lib/keep watch"))
    assert set(positions(text)) == set(paths(tomllib.loads(text)))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(
    texts, st.sampled_from(['"', '""', "'''", "\\", "# x", "[t]", "a = 1\n", "]", "}", ","]),
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans(), st.datetimes(),
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=12
)
documents = st.dictionaries(texts, values, max_size=5)


@given(documents, st.booleans())
def test_every_path_of_any_document_is_found_where_its_key_stands(data: dict[str, object], multiline: bool) -> None:
    text = tomli_w.dumps(data, multiline_strings=multiline)
    found, lines = positions(text), text.split("\n")
    assert set(found) == set(paths(tomllib.loads(text)))
    for path, line in found.items():
        if isinstance(key := path[-1], str):
            written = tomli_w.dumps({key: 0}).removesuffix(" = 0\n")
            assert written in lines[line - 1], (path, line)


def nested_inline(value: object) -> str:
    """Write inline tables and arrays over several lines, with comments where TOML 1.0 allows them."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {nested_inline(item)}' for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[ # ]\n" + ",\n\n".join(map(nested_inline, value)) + ",\n]" if value else "[\n]"
    return "'''\n'' ' ]'''"


plain = st.text("abc .#=[]{}'", min_size=1, max_size=4)
trees = st.recursive(
    st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(plain, trees, max_size=4))
def test_inline_tables_within_arrays_are_found_line_by_line(data: dict[str, object]) -> None:
    text = "\n".join(f'"{key}" = {nested_inline(value)}' for key, value in data.items())
    found, lines = positions(text), text.split("\n")
    assert set(found) == set(paths(tomllib.loads(text)))
    for path, line in found.items():
        if isinstance(path[-1], str):
            assert f'"{path[-1]}" =' in lines[line - 1]
