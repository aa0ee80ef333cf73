"""Recipes of checks of the machine itself."""

import os

from config.checks import host
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.cpu import CpuProbe, LoadProbe
from monitor.probes.disk import DiskProbe
from monitor.probes.disk_io import DiskIoProbe
from monitor.probes.memory import MemoryProbe, SwapProbe
from monitor.probes.network import NetworkProbe
from monitor.probes.processes import ProcessesProbe
from monitor.probes.system import FileDescriptorsProbe, UptimeProbe
from monitor.result import Probe


def _disk(check: host.DiskCheck, shared: Shared) -> Probe:
    return DiskProbe(os.fspath(check.path), check.timeout.total_seconds(), shared.file_systems)


RECIPES: Recipes = {
    host.CpuCheck: Recipe(lambda _check, _shared: CpuProbe()),
    host.LoadCheck: Recipe(lambda _check, _shared: LoadProbe()),
    host.MemoryCheck: Recipe(lambda _check, _shared: MemoryProbe()),
    host.SwapCheck: Recipe(lambda _check, _shared: SwapProbe()),
    host.DiskCheck: Recipe(_disk, subject=lambda check: os.fspath(check.path)),
    host.DiskIoCheck: Recipe(lambda check, _shared: DiskIoProbe(check.devices)),
    host.NetworkCheck: Recipe(lambda check, _shared: NetworkProbe(check.interfaces)),
    host.UptimeCheck: Recipe(lambda _check, _shared: UptimeProbe()),
    host.ProcessesCheck: Recipe(lambda _check, _shared: ProcessesProbe()),
    host.FileDescriptorsCheck: Recipe(lambda _check, _shared: FileDescriptorsProbe()),
}
