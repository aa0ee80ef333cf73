"""Settings of checks of the hardware: sensors, disks, power, network cards."""

from typing import ClassVar, Literal

from config.checks.base import CheckBase, Readings


class TemperatureCheck(CheckBase):
    """Temperatures, an entity a sensor. Main reading `celsius`; also `share_of_critical` where the chip has a limit."""

    type: Literal["temperature"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {"celsius": "celsius", "share_of_critical": "ratio"}


class FansCheck(CheckBase):
    """Fans, an entity a fan. Main reading `rpm`."""

    type: Literal["fans"]
    discovers: ClassVar[bool] = True
    readings: ClassVar[Readings] = {"rpm": "rpm"}


HardwareCheck = TemperatureCheck | FansCheck
