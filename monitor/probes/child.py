"""The other side of :class:`monitor.probes.in_child.InChild`: takes a probe from stdin, measures, and sends both back.

Run as ``python -m monitor.probes.child``. Refuses to keep anything: it measures once and ends.
"""

import os
import pickle
import sys
import traceback

from monitor.result import Measurement, NoData, ProbeError


def main() -> None:
    """Measure once. What goes to stdout is one pickle: the outcome (or a traceback as text), and the probe."""
    letter = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no part of the answer
    probe = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own process
    outcome: Measurement | ProbeError | NoData | str
    try:
        outcome = probe.measure()
    except (ProbeError, NoData) as known:
        outcome = known.with_traceback(None)
        outcome.__cause__ = outcome.__context__ = None
    except Exception:  # noqa: BLE001 - told as what it is on the other side
        outcome = traceback.format_exc()
    with open(letter, "wb") as file:
        pickle.dump((outcome, probe), file)


if __name__ == "__main__":
    main()
