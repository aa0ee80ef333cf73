"""Recipes of checks whose measuring is somebody else's program."""

from functools import partial

from config.checks import extensions
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.command import CommandProbe
from monitor.probes.push import PushProbe
from monitor.probes.textfile import TextfileProbe
from monitor.result import Probe


def _command(check: extensions.CommandCheck, _shared: Shared) -> Probe:
    environment = {name: value.get_secret_value() for name, value in check.environment.items()}
    return CommandProbe(check.run, environment, check.timeout.total_seconds())


def _textfile(check: extensions.TextfileCheck, shared: Shared) -> Probe:
    return TextfileProbe(check.directory, check.metric, check.stale_after, shared.clock)


def _push(check: extensions.PushCheck, shared: Shared) -> Probe:
    return PushProbe(partial(shared.inbox.pushed, check.name), check.max_age, shared.clock)


RECIPES: Recipes = {
    extensions.CommandCheck: Recipe(_command, subject=lambda check: check.name),
    extensions.TextfileCheck: Recipe(
        _textfile, subject=lambda check: check.metric or check.directory.name, optional=frozenset({"value"})
    ),
    extensions.PushCheck: Recipe(_push, subject=lambda check: check.name),
}
