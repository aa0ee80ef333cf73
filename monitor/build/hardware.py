"""Recipes of checks of the hardware."""

from config.checks import hardware
from monitor.build.recipe import Recipe, Recipes
from monitor.probes.sensors import FansProbe, TemperatureProbe

RECIPES: Recipes = {
    # most chips name no critical temperature
    hardware.TemperatureCheck: Recipe(
        lambda _check, _shared: TemperatureProbe(), optional=frozenset({"share_of_critical"})
    ),
    hardware.FansCheck: Recipe(lambda _check, _shared: FansProbe()),
}
