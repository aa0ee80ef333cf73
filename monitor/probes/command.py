"""Programs that speak the Nagios plugin protocol: the exit code is the verdict, the output explains it.

What a plugin may take and have is settled by :class:`monitor.probes.program.Program`; this module only reads it.
"""

import shlex
from collections.abc import Mapping

from monitor.probes.perfdata import parse_output
from monitor.probes.program import OUTPUT_LIMIT_BYTES, Ended, Program, short_environment
from monitor.result import Finding, Measurement, ProbeError, Status

__all__ = ["OUTPUT_LIMIT_BYTES", "CommandProbe"]

_STATUSES = (Status.OK, Status.WARNING, Status.CRITICAL, Status.UNKNOWN)


class CommandProbe:
    """Runs ``command`` (split as a shell would, run without one) with ``environment`` added to its own."""

    def __init__(self, command: str, environment: Mapping[str, str], timeout_seconds: float) -> None:
        self._command = command
        self._environment = environment
        self._timeout_seconds = timeout_seconds
        self._program: Program | None = None

    def measure(self) -> Measurement:
        """Return the plugin's performance data as readings and its exit code (0 to 3) as finding.

        Raises ProbeError when it cannot be started, overruns, is killed, or exits with another code.
        """
        if self._program is None:
            self._program = Program(
                self._arguments(),
                self._timeout_seconds,
                environment=short_environment() | dict(self._environment),
                shown=self._command,
            )
        return self._measurement(self._program.run())

    def _arguments(self) -> list[str]:
        try:
            return shlex.split(self._command)
        except ValueError as error:
            raise ProbeError(f"running {self._command}: {str(error).lower()}", hint="are all quotes closed?") from error

    def _measurement(self, ended: Ended) -> Measurement:
        if ended.code >= len(_STATUSES):
            said = ended.complaint or ended.output.decode("utf-8", "replace").strip()
            raise ProbeError(
                f"running {self._command}: exit code {ended.code} is not one of a plugin (0 to 3)"
                + (f": {said}" if said else "")
            )
        plugin = parse_output(ended.output.decode("utf-8", "replace"))
        message = plugin.text or plugin.details or ended.complaint or f"exit code {ended.code} and no output"
        if plugin.faults:
            message += f" (performance data not understood: {', '.join(plugin.faults[:3])[:80]})"
        return Measurement(plugin.readings, Finding(_STATUSES[ended.code], message))
