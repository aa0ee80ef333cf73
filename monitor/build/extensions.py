"""Recipes of checks whose measuring is somebody else's program."""

from config.checks import extensions
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.command import CommandProbe
from monitor.result import Probe


def _command(check: extensions.CommandCheck, _shared: Shared) -> Probe:
    environment = {name: value.get_secret_value() for name, value in check.environment.items()}
    return CommandProbe(check.run, environment, check.timeout.total_seconds())


RECIPES: Recipes = {
    extensions.CommandCheck: Recipe(_command, subject=lambda check: check.name),
}
