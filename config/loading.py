"""From files to settings: finds keepwatch.toml, merges conf.d, validates the whole and reports every problem at once.

Nothing here changes anything, and a configuration with any problem yields no settings at all, so that a bad reload
can never half apply.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from config import default
from config.machine import STATE_DIR_VARIABLE, Machine
from config.problems import ConfigProblems, Problem
from config.settings import Settings

CONFIG_VARIABLE = "KEEPWATCH_CONFIG"
PLACES = (Path("keepwatch.toml"), Path("/etc/keepwatch/keepwatch.toml"))


def find_config(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to load: ``explicit``, $KEEPWATCH_CONFIG, ./keepwatch.toml, /etc/keepwatch/keepwatch.toml.

    One that was named is returned whether it exists or not, since reading another instead would be a surprise.
    None means that the embedded default applies.
    """
    if explicit is not None:
        return explicit
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return next((place for place in PLACES if place.exists()), None)


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    state_dir: Path | None = None,
    machine: Machine | None = None,
) -> Settings:
    """Load and validate everything; ``path`` None takes the embedded default. Raises ConfigProblems with all of them.

    The result is whole: ``settings.daemon`` has ``state_dir`` (argument, $KEEPWATCH_STATE_DIR, the file, the
    machine's default, in this order), ``host`` and ``timezone`` filled in. ``machine`` is looked at unless given.
    """
    machine = machine or Machine.here(environ)
    override = state_dir or (Path(environ[STATE_DIR_VARIABLE]) if environ.get(STATE_DIR_VARIABLE) else None)
    text = path.read_text() if path else default.text(override or machine.state_dir)
    data = tomllib.loads(text)
    daemon = {"host": machine.host, "timezone": machine.timezone, "state_dir": str(machine.state_dir)}
    daemon |= data.get("daemon", {})
    if override:
        daemon["state_dir"] = str(override)
    try:
        return Settings.model_validate({**data, "daemon": daemon}, context={"environ": environ})
    except ValidationError as errors:
        raise ConfigProblems(Problem(path, None, str(e["loc"]), e["msg"]) for e in errors.errors()) from None
