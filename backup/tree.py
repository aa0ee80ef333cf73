"""Trees and their nodes: restic's JSON, byte for byte.

A tree lists the entries of one directory. Its bytes decide its identity, so they are exactly those that restic writes
for the same directory in UTC: field order, Go's string escapes, times, mode bits. What this module refuses: guessing.
A tree that is not valid raises CorruptData; an unsafe name is returned as it stands, for the caller to judge.
Source of the format: restic's ``internal/data/tree.go`` and ``node.go``; strings are :mod:`backup.quoting`'s.
"""

import json
import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from backup.errors import CorruptData
from backup.quoting import as_text as as_text
from backup.quoting import is_plain, json_string, quote_name, unquote_name
from backup.quoting import raw_bytes as raw_bytes

_DIR, _SYMLINK, _DEVICE, _FIFO = 1 << 31, 1 << 27, 1 << 26, 1 << 25
_SOCKET, _SETUID, _SETGID, _CHAR, _STICKY = 1 << 24, 1 << 23, 1 << 22, 1 << 21, 1 << 20
_GO_TYPES = (
    (stat.S_IFREG, "file", 0),
    (stat.S_IFDIR, "dir", _DIR),
    (stat.S_IFLNK, "symlink", _SYMLINK),
    (stat.S_IFBLK, "dev", _DEVICE),
    (stat.S_IFCHR, "chardev", _DEVICE | _CHAR),
    (stat.S_IFIFO, "fifo", _FIFO),
    (stat.S_IFSOCK, "socket", _SOCKET),
)
TYPE_OF_FORMAT = {fmt: name for fmt, name, _ in _GO_TYPES}
"""``stat.S_IFMT(st_mode)`` to the node type's name."""
_GO_BITS_OF_FORMAT = {fmt: bits for fmt, _, bits in _GO_TYPES}
_LINKS_COUNT = frozenset({"file", "symlink", "dev", "chardev"})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS = 1_000_000_000
_MINUTE_NS = 60 * _NS
_FIRST_MINUTE = int((datetime(1, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()) // 60
_LAST_MINUTE = int((datetime(9999, 12, 31, 23, 59, tzinfo=UTC) - _EPOCH).total_seconds()) // 60

_FIRST, _BETWEEN, _BEHIND_NAME = '{"nodes":[{"name":', '},{"name":', ',"type":"'
_HEAD, _TAIL = '{"nodes":[', "]}\n"


class Node(NamedTuple):
    """One entry of a directory. A tuple, since there are millions and a frozen dataclass takes twice as long to make.

    Moments in nanoseconds since 1970, sizes in bytes, ids of 32 raw bytes. ``name`` and ``linktarget`` are the raw
    bytes of the file system. ``mode`` holds Go's FileMode bits.
    """

    name: bytes
    type: str
    mode: int = 0
    mtime_ns: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: int = 0
    links: int = 0
    linktarget: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    device: int = 0
    content: tuple[bytes, ...] | None = None
    subtree: bytes | None = None

    @property
    def permissions(self) -> int:
        """Permission bits with setuid, setgid and sticky, as ``os.chmod`` takes them."""
        return posix_mode(self.mode)


# ---- modes and times ----


def go_mode(st_mode: int) -> int:
    """Turn a POSIX st_mode into Go's FileMode bits."""
    mode = (st_mode & 0o777) | _GO_BITS_OF_FORMAT[st_mode & 0o170000]
    if st_mode & 0o7000:
        mode |= (_SETUID if st_mode & 0o4000 else 0) | (_SETGID if st_mode & 0o2000 else 0)
        mode |= _STICKY if st_mode & 0o1000 else 0
    return mode


def posix_mode(mode: int) -> int:
    """Permission bits of a Go FileMode, with setuid, setgid and sticky."""
    special = (0o4000 if mode & _SETUID else 0) | (0o2000 if mode & _SETGID else 0) | (0o1000 if mode & _STICKY else 0)
    return (mode & 0o777) | special


class _Minutes(dict[int, str]):
    """``2026-08-01T12:34:`` by minute since 1970: neighbours in a tree share minutes, and formatting them is dear."""

    def __missing__(self, minute: int) -> str:
        bounded = min(max(minute, _FIRST_MINUTE), _LAST_MINUTE)
        text = (_EPOCH + timedelta(minutes=bounded)).isoformat()[:17]
        if len(self) > 100_000:
            self.clear()
        self[minute] = text
        return text


_minutes = _Minutes()


def format_time(ns: int) -> str:
    """RFC 3339 with nanoseconds in UTC, trailing zeros trimmed. Years outside 1 to 9999 are pressed into that range."""
    minute, rest = divmod(ns, _MINUTE_NS)
    second, fraction = divmod(rest, _NS)
    if fraction:
        return f"{_minutes[minute]}{second:02d}.{fraction:09d}".rstrip("0") + "Z"
    return f"{_minutes[minute]}{second:02d}Z"


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))")


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 moment. Raises ValueError."""
    if text.endswith("Z") and text[19:20] == "." and text[17:19].isdigit() and text[20:-1].isdigit() and len(text) < 31:
        minute = _seconds_of_minute[text[:17]]
        return (minute + int(text[17:19])) * _NS + int(text[20:-1].ljust(9, "0"))
    return _parse_time(text)


class _SecondsOfMinute(dict[str, int]):
    """Seconds since 1970 by ``2026-08-01T12:34:``."""

    def __missing__(self, prefix: str) -> int:
        if len(self) > 100_000:
            self.clear()
        self[prefix] = seconds = _parse_time(f"{prefix}00Z") // _NS
        return seconds


_seconds_of_minute = _SecondsOfMinute()


def _parse_time(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not an RFC 3339 time")
    year, month, day, hour, minute, second, fraction, sign, off_hour, off_minute = match.groups()
    # Go writes its zero time as year 1 and can write year 0, which datetime cannot hold
    moment = datetime(max(int(year), 1), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    if sign:
        offset = int(off_hour) * 3600 + int(off_minute) * 60
        seconds += -offset if sign == "+" else offset
    return seconds * _NS + int((fraction or "0").ljust(9, "0"))


# ---- encoding ----


def encode_name(name: str) -> str:
    """Encode a node's name as the JSON string it is written and, by :func:`split_tree`, found by."""
    return f'"{name}"' if is_plain(name) else json_string(quote_name(name))


def encode_head(
    json_name: str,
    kind: str,
    mode: int,
    mtime_ns: int,
    ctime_ns: int,
    owner: str,
    inode: int,
    device_id: int,
    size: int,
    links: int,
    *,
    atime_ns: int | None = None,
) -> str:
    """Encode a node's fields from ``name`` to ``links``; atime is mtime unless given, as restic has it.

    ``json_name`` comes from :func:`encode_name`, ``owner`` from :func:`encode_owner`. Two entries with equal heads
    have equal metadata but for extended attributes, and those cannot differ while ctime is the same.
    """
    mtime = format_time(mtime_ns)
    atime = mtime if atime_ns is None or atime_ns == mtime_ns else format_time(atime_ns)
    ctime = mtime if ctime_ns == mtime_ns else format_time(ctime_ns)
    mode_part = f',"mode":{mode}' if mode else ""
    inode_part = f',"inode":{inode}' if inode else ""
    device_part = f',"device_id":{device_id}' if device_id else ""
    size_part = f',"size":{size}' if size else ""
    links_part = f',"links":{links}' if links and kind in _LINKS_COUNT else ""
    return (
        f'{{"name":{json_name},"type":"{kind}"{mode_part},"mtime":"{mtime}","atime":"{atime}","ctime":"{ctime}"'
        f"{owner}{inode_part}{device_part}{size_part}{links_part}"
    )


def encode_file_head(json_name: str, status: os.stat_result, size: int, constants: "FileConstants") -> str:
    """As `encode_head` for a regular file as the system shows it; ``constants`` are those of the same status.

    A run does this for every file, and most of what files differ in is said here in one expression.
    """
    mtime_ns, ctime_ns = status.st_mtime_ns, status.st_ctime_ns
    mtime = format_time(mtime_ns)
    ctime = mtime if ctime_ns == mtime_ns else format_time(ctime_ns)
    size_part = f',"size":{size}' if size else ""
    inode_part = f',"inode":{inode}' if (inode := status.st_ino) else ""
    kind, owner, device_part, links_part = constants
    return (
        f'{{"name":{json_name}{kind},"mtime":"{mtime}","atime":"{mtime}","ctime":"{ctime}"{owner}'
        f"{inode_part}{device_part}{size_part}{links_part}"
    )


FileConstants = tuple[str, str, str, str]
"""What many files have in common, encoded: type and mode, owner, device, links."""


def file_constants(st_mode: int, owner: str, device_id: int, links: int) -> FileConstants:
    """Encode what `encode_file_head` takes as given; ``owner`` comes from :func:`encode_owner`."""
    mode = go_mode(st_mode)
    return (
        f',"type":"file","mode":{mode}' if mode else ',"type":"file"',
        owner,
        f',"device_id":{device_id}' if device_id else "",
        f',"links":{links}' if links else "",
    )


def encode_owner(uid: int, gid: int, user: str, group: str) -> str:
    """Encode the fields ``uid`` to ``group``; the archiver keeps the result for each owner it meets."""
    user_part = f',"user":{json_string(user)}' if user else ""
    group_part = f',"group":{json_string(group)}' if group else ""
    return f',"uid":{uid},"gid":{gid}{user_part}{group_part}'


def encode_rest(
    *,
    linktarget: bytes = b"",
    xattrs: Iterable[tuple[str, bytes]] = (),
    device: int = 0,
    content: Sequence[bytes] | None = None,
    subtree: bytes | None = None,
) -> str:
    """Encode a node's fields from ``linktarget`` to its end."""
    parts = []
    if linktarget:
        text = as_text(linktarget)
        parts.append(f',"linktarget":{json_string(text)}')
        if any("\udc80" <= char <= "\udcff" for char in text):
            parts.append(f',"linktarget_raw":"{b64encode(linktarget).decode()}"')
    listed = [f'{{"name":{json_string(key)},"value":"{b64encode(value).decode()}"}}' for key, value in xattrs]
    if listed:
        parts.append(f',"extended_attributes":[{",".join(listed)}]')
    if device:
        parts.append(f',"device":{device}')
    if content is None:
        parts.append(',"content":null')
    else:
        parts.append(',"content":["' + '","'.join(map(bytes.hex, content)) + '"]' if content else ',"content":[]')
    if subtree:
        parts.append(f',"subtree":"{subtree.hex()}"')
    parts.append("}")
    return "".join(parts)


def encode_node(node: Node) -> str:
    """Encode one node."""
    head = encode_head(
        encode_name(as_text(node.name)), node.type, node.mode, node.mtime_ns, node.ctime_ns,
        encode_owner(node.uid, node.gid, node.user, node.group),
        node.inode, node.device_id, node.size, node.links, atime_ns=node.atime_ns,
    )  # fmt: skip
    rest = encode_rest(
        linktarget=node.linktarget, xattrs=node.xattrs, device=node.device, content=node.content, subtree=node.subtree
    )
    return head + rest


def encode_tree(nodes: Iterable[str]) -> bytes:
    """Join encoded nodes, already sorted by their raw names, to a tree."""
    return f"{_HEAD}{','.join(nodes)}{_TAIL}".encode()


# ---- reading ----


def parse_tree(data: bytes) -> list[Node]:
    """Read a tree blob, in the order it has. Raises CorruptData."""
    with _telling_damage():
        return [_node(fields) for fields in _loads(data)["nodes"] or ()]


class Entry(NamedTuple):
    """What a plan wants to know of a node; much less to read than all of it."""

    name: bytes
    type: str
    size: int
    links: int
    inode: int
    device_id: int
    fields: dict[str, Any]

    def node(self) -> Node:
        """Read the rest. Raises CorruptData."""
        with _telling_damage():
            return _node(self.fields)


def parse_entries(data: bytes) -> list[Entry]:
    """Read a tree blob as far as a plan needs, in the order it has. Raises CorruptData."""
    with _telling_damage():
        return [
            Entry(
                unquote_name(fields["name"]), fields["type"], fields.get("size", 0), fields.get("links", 0),
                fields.get("inode", 0), fields.get("device_id", 0), fields,
            )
            for fields in _loads(data)["nodes"] or ()
        ]  # fmt: skip


@contextmanager
def _telling_damage() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptData(f"reading a tree: it is not valid: {error}") from error


def parse_node(encoded: str) -> Node:
    """Read one encoded node, as :func:`split_tree` gives it. Raises CorruptData."""
    return parse_tree(encode_tree([encoded]))[0]


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)  # takes lone surrogate escapes, which other writers may leave


_FILE_FIELDS = (
    "name", "type", "mode", "mtime", "atime", "ctime", "uid", "gid", "user", "group", "inode", "device_id", "size",
    "links", "content",
)  # fmt: skip
"""What nearly every file has, in this order."""


def _node(fields: dict[str, Any]) -> Node:
    if tuple(fields) == _FILE_FIELDS:  # half the time of asking for each of all that there may be
        (name, kind, mode, mtime, atime, ctime, uid, gid, user, group, inode, device, size, links, content) = (
            fields.values()
        )
        mtime_ns = parse_time(mtime)
        return Node(
            unquote_name(name), kind, mode, mtime_ns, mtime_ns if atime == mtime else parse_time(atime),
            mtime_ns if ctime == mtime else parse_time(ctime), uid, gid, user, group, inode, device, size, links,
            content=None if content is None else tuple(map(_id, content)),
        )  # fmt: skip
    mtime, ctime = fields.get("mtime"), fields.get("ctime")
    atime = fields.get("atime")
    mtime_ns = _moment(mtime)
    raw_target = fields.get("linktarget_raw")
    target = b64decode(raw_target) if raw_target else raw_bytes(fields.get("linktarget", ""))
    xattrs = tuple((a["name"], b64decode(a["value"] or "")) for a in fields.get("extended_attributes") or ())
    content = fields.get("content")
    return Node(
        name=unquote_name(fields["name"]),
        type=fields["type"],
        mode=fields.get("mode", 0),
        mtime_ns=mtime_ns,
        atime_ns=mtime_ns if atime == mtime else _moment(atime),
        ctime_ns=mtime_ns if ctime == mtime else _moment(ctime),
        uid=fields.get("uid", 0),
        gid=fields.get("gid", 0),
        user=fields.get("user", ""),
        group=fields.get("group", ""),
        inode=fields.get("inode", 0),
        device_id=fields.get("device_id", 0),
        size=fields.get("size", 0),
        links=fields.get("links", 0),
        linktarget=target,
        xattrs=xattrs,
        device=fields.get("device", 0),
        content=None if content is None else tuple(map(_id, content)),
        subtree=_id(fields["subtree"]) if fields.get("subtree") else None,
    )


def _id(text: str) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != 32:
        raise ValueError(f"'{text}' is not a blob id")
    return raw


def _moment(text: str | None) -> int:
    return parse_time(text) if text else 0


_NODE_BREAK = re.compile(r'\},(?=\{"name":"(?:[^"\\]|\\.)*","type":")')


def split_tree(data: bytes) -> dict[str, str]:
    """Map each node's encoded name to the encoded node, without reading more of it. Raises CorruptData.

    A tree in other than this module's canonical form is read and encoded anew.
    """
    text = data.decode("utf-8", "surrogateescape")
    if text.startswith(_FIRST) and text.endswith(_TAIL) and '"extended_attributes"' not in text:
        # quotes in names are escaped, so this stands between two nodes only
        pieces = text[len(_FIRST) : -len(_TAIL) - 1].split(_BETWEEN)
        nodes = {piece[: piece.find(_BEHIND_NAME)]: f'{{"name":{piece}}}' for piece in pieces}
        if len(nodes) == len(pieces):
            return nodes
    if text.startswith(_HEAD) and text.endswith(_TAIL):
        # lists of extended attributes hold '},{"name":' as well, but never followed by a type
        pieces = _NODE_BREAK.split(text[len(_HEAD) : -len(_TAIL) - 1])
        nodes = {piece[8 : piece.find(',"type":"')]: piece + "}" for piece in pieces if piece.startswith('{"name":"')}
        if len(nodes) == len(pieces):
            return nodes
    return {encode_name(as_text(node.name)): encode_node(node) for node in parse_tree(data)}


def subtree_of(encoded: str) -> bytes | None:
    """The subtree id in an encoded node that lies in a tree's canonical form."""
    return bytes.fromhex(encoded[-66:-2]) if encoded[-77:-66] == '"subtree":"' else None


def content_of(encoded: str) -> list[bytes]:
    """The blob ids in an encoded file node."""
    if encoded[-80:-67] == ',"content":["':  # one blob, as most files have
        return [bytes.fromhex(encoded[-67:-3])]
    start = encoded.rfind(',"content":[') + 12
    ids = encoded[start + 1 : -3]
    return [bytes.fromhex(part) for part in ids.split('","')] if ids else []
