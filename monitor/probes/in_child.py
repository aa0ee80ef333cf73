"""A probe that measures in a process of its own: for clients of databases and for much data at once.

Their libraries take tens of megabytes, which the daemon would hold for months, and some wait where nothing can
interrupt them. A child's memory goes back after each run, and at its deadline it is killed. The probe travels there and
back by pickle, so that it remembers its counters; it has to be made of values and of functions of modules.
"""

import os
import pickle
import sys
from typing import cast

from monitor.probes.program import Program
from monitor.result import Measurement, NoData, Probe, ProbeError

_MOST_BYTES = 16 << 20


class InChild:
    """Measures by ``probe`` in a child. ``what`` says in errors what is being done."""

    def __init__(self, probe: Probe, what: str, timeout_seconds: float) -> None:
        self._probe = probe
        self._what = what
        self._timeout_seconds = timeout_seconds
        self._program: Program | None = None

    def measure(self) -> Measurement:
        """Return or raise what the probe does; ProbeError also when the child dies or overruns."""
        if self._program is None:
            self._program = Program(
                [sys.executable, "-m", "monitor.probes.child"],
                self._timeout_seconds,
                environment=os.environ,
                shown=self._what,
                output_limit_bytes=_MOST_BYTES,
            )
        ended = self._program.run(pickle.dumps(self._probe))
        if ended.code:
            raise ProbeError(f"{self._what}: the child that does it ended with exit status {ended.code}:"
                             f" {ended.complaint[-300:]}")  # fmt: skip
        outcome, self._probe = pickle.loads(ended.output)  # noqa: S301 - from our own process
        if isinstance(outcome, ProbeError | NoData):
            raise outcome
        if isinstance(outcome, str):
            raise RuntimeError(outcome)
        return cast(Measurement, outcome)
