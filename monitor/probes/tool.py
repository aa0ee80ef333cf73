"""The system's own tools as probes ask them: where root finds them, in English, and absent where they are absent."""

import json
import os
import shutil
from collections.abc import Collection, Sequence
from typing import Any

from monitor.probes.program import Ended, Program, short_environment
from monitor.result import NoData, ProbeError

_WHERE_ROOT_LOOKS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_OUTPUT_LIMIT_BYTES = 4 * 2**20


class Tool:
    """One command line of a tool.

    ``accepted``: exit codes of success. ``absent``: words of a failure which says that this machine has no such thing.
    ``path``: where it is looked for, as $PATH.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        timeout_seconds: float,
        *,
        accepted: Collection[int] = (0,),
        absent: str = "",
        hint: str = "",
        path: str | None = None,
    ) -> None:
        environment = short_environment() | {"LC_ALL": "C"}
        self._path = path or os.pathsep.join([environment.get("PATH", os.defpath), *_WHERE_ROOT_LOOKS])
        environment["PATH"] = self._path
        self._name = arguments[0]
        self._shown = " ".join(arguments)
        self._accepted = accepted
        self._absent = absent
        self._hint = hint
        self._program = Program(
            arguments, timeout_seconds, environment=environment, output_limit_bytes=_OUTPUT_LIMIT_BYTES
        )

    def run(self) -> Ended:
        """Run it. Raises NoData when it is not installed, ProbeError when it fails, overruns or cannot be started."""
        if shutil.which(self._name, path=self._path) is None:  # a few stat calls; starting it costs a process
            raise NoData(f"{self._name} is not installed")
        ended = self._program.run()
        if ended.code not in self._accepted:
            said = " ".join((ended.complaint or ended.output.decode("utf-8", "replace")).split())[:200]
            if self._absent and self._absent in said:
                raise NoData(f"{self._name}: {said}")
            raise ProbeError(f"running {self._shown}: exit status {ended.code}: {said}", hint=self._hint)
        return ended

    def text(self) -> str:
        """Run it and return what it printed."""
        return self.run().output.decode("utf-8", "replace")

    def json(self) -> dict[str, Any]:
        """Run it and return the object that it printed. Raises ProbeError when it printed none."""
        return self.parsed(self.run())

    def parsed(self, ended: Ended) -> dict[str, Any]:
        """Return the JSON object of an output. Raises ProbeError when it is none."""
        try:
            found = json.loads(ended.output)
        except ValueError as error:
            said = ended.complaint or ended.output[:100].decode("utf-8", "replace")
            raise ProbeError(
                f"running {self._shown}: the output is no JSON: {said}",
                hint="is its version one that prints JSON?",
            ) from error
        if not isinstance(found, dict):
            raise ProbeError(f"running {self._shown}: the output is no JSON object")
        return found
