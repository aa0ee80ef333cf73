"""A probe in a child: the same answers and errors, its memory kept, and an end at the deadline."""

import os
import time
from dataclasses import dataclass

import pytest

from monitor.probes.in_child import InChild
from monitor.result import Measurement, NoData, ProbeError, Reading


@dataclass
class Counting:
    runs: int = 0
    act: str = ""

    def measure(self) -> Measurement:
        self.runs += 1
        if self.act == "fail":
            raise ProbeError("asking the thing: it is gone", hint="look for it")
        if self.act == "nothing":
            raise NoData("no such thing")
        if self.act == "bug":
            raise KeyError("oops")
        if self.act == "hang":
            time.sleep(60)
        if self.act == "die":
            os._exit(3)
        if self.act == "print":
            os.write(1, b"noise of a library\n")
        return Measurement([Reading("runs", self.runs, "count"), Reading("pid", os.getpid(), "count")])


def in_child(act: str = "", timeout_seconds: float = 20) -> InChild:
    return InChild(Counting(act=act), "asking the thing", timeout_seconds)


def test_it_measures_elsewhere_and_remembers_for_the_next_run() -> None:
    probe = in_child("print")
    first, second = probe.measure(), probe.measure()
    assert (first.readings[0].value, second.readings[0].value) == (1, 2)
    assert first.readings[1].value != os.getpid()


def test_its_errors_come_back_as_they_are() -> None:
    with pytest.raises(ProbeError, match="asking the thing: it is gone") as error:
        in_child("fail").measure()
    assert error.value.hint == "look for it"
    with pytest.raises(NoData, match="no such thing"):
        in_child("nothing").measure()
    with pytest.raises(RuntimeError, match="KeyError: 'oops'"):
        in_child("bug").measure()


def test_a_child_that_hangs_or_dies_is_an_error() -> None:
    began = time.monotonic()
    with pytest.raises(ProbeError, match=r"asking the thing: no end after 0\.5 s, killed"):
        in_child("hang", 0.5).measure()
    assert time.monotonic() - began < 5
    with pytest.raises(ProbeError, match="the child that does it ended with exit status 3"):
        in_child("die").measure()
