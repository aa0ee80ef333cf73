"""Plugin output: what the guidelines say, what plugins really print, and garbage."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.probes.perfdata import MOST_READINGS, parse_output, parse_perfdata


def test_text_and_data_are_taken_apart_over_several_lines() -> None:
    output = "DISK OK - free space: / 3326 MB | /=2643MB;5948;5958;0;5968\n"
    output += "/boot 68 MB\n/home 69357 MB | /boot=68MB\n/home=69MB"
    parsed = parse_output(output)
    assert parsed.text == "DISK OK - free space: / 3326 MB"
    assert parsed.details == "/boot 68 MB\n/home 69357 MB"
    assert [(reading.name, reading.value) for reading in parsed.readings] == [
        ("/", 2_643_000_000), ("/boot", 68_000_000), ("/home", 69_000_000),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "name", "value", "unit"),
    [
        ("load1=0.150;5.000;10.000;0;", "load1", 0.15, "number"),
        ("time=12ms", "time", 0.012, "seconds"),
        ("time=250us;;;0", "time", 0.00025, "seconds"),
        ("rta=1.5s", "rta", 1.5, "seconds"),
        ("pl=20%;80;100;;", "pl", 0.2, "ratio"),
        ("requests=1234c", "requests", 1234, "count"),
        ("mem=5KiB", "mem", 5120, "bytes"),
        ("mem=1GB", "mem", 10**9, "bytes"),
        ("mem=512B", "mem", 512, "bytes"),
        ("offset=-0.0021s;60;120", "offset", -0.0021, "seconds"),
        ("big=1.5e3", "big", 1500, "number"),
        ("comma=1,5", "comma", 1.5, "number"),
        ("'free space on C:'=7", "free space on C:", 7, "number"),
        ("'it''s'=7", "it's", 7, "number"),
        ("two words=7", "two words", 7, "number"),
    ],
)
def test_an_item_becomes_a_reading_in_base_units(item: str, name: str, value: float, unit: str) -> None:
    (reading,), faults = parse_perfdata(item)
    assert (reading.name, reading.unit, faults) == (name, unit, ())
    assert reading.value == pytest.approx(value)


def test_a_value_that_the_plugin_could_not_tell_is_not_a_number() -> None:
    (reading,), _ = parse_perfdata("users=U;5;10")
    assert math.isnan(reading.value)


def test_what_cannot_be_read_is_reported_and_the_rest_kept() -> None:
    readings, faults = parse_perfdata("good=1 =5 bad=x y=3parsecs rest=2")
    assert [reading.name for reading in readings] == ["good", "rest"]
    assert set(faults) == {"=5", "bad=x", "y=3parsecs"}


def test_the_first_of_two_with_the_same_label_counts() -> None:
    (reading,), _ = parse_perfdata("a=1 a=2")
    assert reading.value == 1


def test_the_number_of_readings_is_bounded() -> None:
    readings, faults = parse_perfdata(" ".join(f"a{number}={number}" for number in range(MOST_READINGS + 50)))
    assert len(readings) == MOST_READINGS
    assert faults


def test_a_long_line_of_garbage_is_read_in_reasonable_time() -> None:
    for garbage in ("'" * 65_536, "a" * 65_536, "=" * 65_536, "' " * 32_768, "a b " * 16_384, "''=" * 21_845):
        began = time.process_time()
        parse_output(f"OK | {garbage}")
        assert time.process_time() - began < 1, garbage[:10]


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_output(text)


@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z/_]{1,12}", fullmatch=True), st.integers(-(10**6), 10**6))))
def test_every_well_formed_item_is_found(items: list[tuple[str, int]]) -> None:
    readings, faults = parse_perfdata(" ".join(f"'{label}'={value};1;2;0;9" for label, value in items))
    expected: dict[str, float] = {}
    for label, value in items:
        expected.setdefault(label, value)
    assert ({reading.name: reading.value for reading in readings}, faults) == (expected, ())
