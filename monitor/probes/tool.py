"""The system's own tools as probes ask them: where root finds them, in English, and absent where they are absent."""

import json
import os
from collections.abc import Collection, Sequence
from typing import Any

from monitor.probes.program import Ended, NotInstalled, Program, short_environment
from monitor.result import NoData, ProbeError

_WHERE_ROOT_LOOKS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_OUTPUT_LIMIT_BYTES = 4 * 2**20


class Tool:
    """One command line of a tool. ``accepted``: exit codes of success. ``path``: where it is looked for, as $PATH."""

    def __init__(
        self,
        arguments: Sequence[str],
        timeout_seconds: float,
        *,
        accepted: Collection[int] = (0,),
        hint: str = "",
        path: str | None = None,
    ) -> None:
        environment = short_environment() | {"LC_ALL": "C"}
        where = environment.get("PATH", os.defpath) if path is None else path
        environment["PATH"] = where if path is not None else os.pathsep.join([where, *_WHERE_ROOT_LOOKS])
        self._name = arguments[0]
        self._shown = " ".join(arguments)
        self._accepted = accepted
        self._hint = hint
        self._program = Program(
            arguments, timeout_seconds, environment=environment, output_limit_bytes=_OUTPUT_LIMIT_BYTES
        )

    def run(self) -> Ended:
        """Run it. Raises NoData when it is not installed, ProbeError when it fails, overruns or cannot be started."""
        try:
            ended = self._program.run()
        except NotInstalled as error:
            raise NoData(f"{self._name} is not installed") from error
        if ended.code not in self._accepted:
            said = " ".join((ended.complaint or ended.output.decode("utf-8", "replace")).split())[:200]
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


def installed(name: str, path: str | None = None) -> bool:
    """Tell whether there is such a tool."""
    where = os.pathsep.join([os.environ.get("PATH", os.defpath), *_WHERE_ROOT_LOOKS]) if path is None else path
    return any(os.access(os.path.join(folder, name), os.X_OK) for folder in where.split(os.pathsep) if folder)
