"""The two formats in which MariaDB's tools give a database away: SQL, and the stream of a physical copy."""

import struct
import zlib
from pathlib import Path

import pytest

from backup.applications.manifest import TableFacts
from backup.applications.mariadb_counting import Counters, bounds
from backup.errors import SourceError
from backup.sources.mariadb_dump import DumpReader, is_whole
from backup.sources.mbstream import MbStream

DUMP = rb"""-- MariaDB dump
-- CHANGE MASTER TO MASTER_LOG_FILE='binlog.000003', MASTER_LOG_POS=1899;
USE `shop`;
LOCK TABLES `a``b` WRITE;
/*!40000 ALTER TABLE `a``b` DISABLE KEYS */;
INSERT INTO `a``b` VALUES
(1,'(2),\n(3)'),
(2,'it\'s ); -- INSERT INTO `x` VALUES (1)');
INSERT INTO `a``b` VALUES
(3,NULL);
UNLOCK TABLES;
LOCK TABLES `empty` WRITE;
UNLOCK TABLES;
DELIMITER ;;
CREATE PROCEDURE `p`() BEGIN
INSERT INTO `a``b` VALUES
(1,'no row');
END ;;
DELIMITER ;
USE `other`;
LOCK TABLES `a``b` WRITE;
INSERT INTO `a``b` VALUES
(1,0x78);
UNLOCK TABLES;
-- SET GLOBAL gtid_slave_pos='0-1-9';
-- Dump completed
"""
OF_MYSQL = rb"""-- CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000007', SOURCE_LOG_POS=157;
USE `shop`;
LOCK TABLES `t` WRITE;
INSERT INTO `t` VALUES (1,'a) (b'),(2,'it\'s (\\'),(3,NULL);
INSERT INTO `t` VALUES (4,_binary '(');
UNLOCK TABLES;
-- Dump completed
"""


@pytest.mark.parametrize("length", [1, 7, 64, 10_000])
def test_rows_of_a_dump_are_counted_as_it_flows_by(length: int) -> None:
    for dump, rows, position, gtid in (
        (DUMP, {"shop.a`b": 3, "shop.empty": 0, "other.a`b": 1}, "binlog.000003:1899", "0-1-9"),
        (OF_MYSQL, {"shop.t": 4}, "binlog.000007:157", ""),
    ):
        reader = DumpReader()
        assert b"".join(reader.passing(dump[at : at + length] for at in range(0, len(dump), length))) == dump
        assert (reader.rows, reader.position, reader.gtid, reader.whole) == (rows, position, gtid, True)
        assert reader.size_bytes == len(dump)


def test_a_dump_without_its_last_line_is_not_whole() -> None:
    assert not is_whole(DUMP[:-20])
    assert not is_whole(b"")


def chunk(name: str, data: bytes | None, offset: int = 0, flags: int = 0, kind: bytes = b"P") -> bytes:
    raw = name.encode()
    head = struct.pack("<8sBcI", b"XBSTCK01", flags, kind if data is not None else b"E", len(raw)) + raw
    return head if data is None else head + struct.pack("<QQI", len(data), offset, zlib.crc32(data)) + data


def read(content: bytes, aside: Path, length: int = 1000) -> list[tuple[str, bytes]]:
    stream = MbStream((content[at : at + length] for at in range(0, len(content), length)), aside)
    return [(member.name, b"".join(member.parts)) for member in stream.members()]


@pytest.mark.parametrize("length", [1, 13, 100_000])
def test_files_that_come_mixed_are_given_one_after_the_other(tmp_path: Path, length: int) -> None:
    content = (
        chunk("ib_logfile0", b"redo1") + chunk("a.ibd", b"page1") + chunk("ib_logfile0", b"redo2", 5)
        + chunk("b.ibd", b"other") + chunk("a.ibd", b"page2", 5) + chunk("b.ibd", None) + chunk("a.ibd", None)
        + chunk("shop/empty.frm", None) + chunk("c", b"3") + chunk("c", None)
        + chunk("future", b"", kind=b"X", flags=1)[: len(chunk("future", None))]
        + chunk("ib_logfile0", None)
    )  # fmt: skip
    assert read(content, tmp_path, length) == [
        ("a.ibd", b"page1page2"), ("b.ibd", b"other"), ("shop/empty.frm", b""), ("c", b"3"),
        ("ib_logfile0", b"redo1redo2"),
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("content", "said"), [
    (b"no stream at all, by any means", "the stream is damaged"),
    (chunk("a", b"data")[:-1], "ends in the middle"),
    (chunk("a", b"data"), "a ends in the middle"),
    (chunk("ib_logfile0", b"data") + chunk("a", b"1") + chunk("a", None), "ib_logfile0 ends in the middle"),
    (chunk("a", b"data")[:-1] + b"x", "a fails its checksum"),
    (chunk("a", b"data", 5), "a part of a is missing at 0"),
    (chunk("a", b"", kind=b"S"), "not known"),
])  # fmt: skip
def test_a_damaged_stream_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        read(content, tmp_path)


def test_bounds_hold_whatever_came_and_went() -> None:
    def look(**values: int) -> Counters:
        return Counters({"handler_write": 0, "handler_delete": 0, "com_truncate": 0} | values)

    counted, latest = {"s.a": 10, "s.b": 3}, {"s.a": {"at": "2026"}}
    assert bounds(counted, look(), look(), latest, ["s.b"]) == {
        "s.a": TableFacts(10, 10, {"at": "2026"}), "s.b": TableFacts(3, 3),
    }  # fmt: skip
    moved = look(handler_write=5, handler_delete=2)
    assert bounds(counted, look(), moved, latest, ["s.b"]) == {"s.a": TableFacts(5, 12), "s.b": TableFacts(0, None)}
    unknown = {"s.a": TableFacts(0, None), "s.b": TableFacts(0, None)}
    assert bounds(counted, look(), look(com_truncate=1), latest, []) == unknown
    assert bounds(counted, moved, look(), latest, []) == unknown, "the server was started again"
