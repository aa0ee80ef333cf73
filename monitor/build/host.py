"""Recipes of checks of the machine itself."""

import os

from config.checks import host
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.cgroups import CgroupsProbe
from monitor.probes.cpu import CpuProbe, LoadProbe, all_times, core_times
from monitor.probes.disk import DiskProbe
from monitor.probes.disk_io import DiskIoProbe
from monitor.probes.kernel import ConntrackProbe, EntropyProbe, OomKillsProbe
from monitor.probes.memory import MemoryProbe, SwapProbe
from monitor.probes.mounted import FileSystemsProbe
from monitor.probes.network import NetworkProbe
from monitor.probes.pressure import PressureProbe
from monitor.probes.process_limits import ProcessLimitsProbe
from monitor.probes.processes import ProcessesProbe
from monitor.probes.recent import Recent
from monitor.probes.stuck import StuckProcessesProbe
from monitor.probes.system import FileDescriptorsProbe, UptimeProbe
from monitor.probes.timekeeping import ClockProbe
from monitor.probes.users import UsersProbe
from monitor.result import Probe


def _disk(check: host.DiskCheck, shared: Shared) -> Probe:
    return DiskProbe(os.fspath(check.path), check.timeout.total_seconds(), shared.file_systems)


def _file_systems(check: host.FileSystemsCheck, shared: Shared) -> Probe:
    return FileSystemsProbe(shared.file_systems, check.timeout.total_seconds(), check.selection, check.exclude_types)


def _oom_kills(check: host.OomKillsCheck, _shared: Shared) -> Probe:
    return OomKillsProbe(Recent(check.within.total_seconds()))


RECIPES: Recipes = {
    host.CpuCheck: Recipe(lambda check, _shared: CpuProbe(core_times if check.per_core else all_times)),
    host.LoadCheck: Recipe(lambda _check, _shared: LoadProbe()),
    host.MemoryCheck: Recipe(lambda _check, _shared: MemoryProbe()),
    host.SwapCheck: Recipe(lambda _check, _shared: SwapProbe()),
    host.DiskCheck: Recipe(_disk, subject=lambda check: os.fspath(check.path)),
    host.FileSystemsCheck: Recipe(_file_systems),
    host.DiskIoCheck: Recipe(lambda check, _shared: DiskIoProbe(check.selection)),
    host.NetworkCheck: Recipe(lambda check, _shared: NetworkProbe(check.selection)),
    host.UptimeCheck: Recipe(lambda _check, _shared: UptimeProbe()),
    host.ProcessesCheck: Recipe(lambda _check, _shared: ProcessesProbe()),
    host.FileDescriptorsCheck: Recipe(lambda _check, _shared: FileDescriptorsProbe()),
    host.PressureCheck: Recipe(lambda _check, _shared: PressureProbe()),
    host.OomKillsCheck: Recipe(_oom_kills),
    host.ConntrackCheck: Recipe(lambda _check, _shared: ConntrackProbe()),
    host.EntropyCheck: Recipe(lambda _check, _shared: EntropyProbe()),
    host.ClockCheck: Recipe(lambda check, _shared: ClockProbe(check.timeout.total_seconds())),
    host.UsersCheck: Recipe(lambda _check, _shared: UsersProbe()),
    host.StuckProcessesCheck: Recipe(lambda check, _shared: StuckProcessesProbe(check.longer_than.total_seconds())),
    host.ProcessLimitsCheck: Recipe(
        lambda check, _shared: ProcessLimitsProbe(check.selection), optional=frozenset({"memory"})
    ),
    # groups are limited in what their owner chose
    host.CgroupsCheck: Recipe(
        lambda check, _shared: CgroupsProbe(check.selection), optional=frozenset({"memory", "tasks", "throttled"})
    ),
}
