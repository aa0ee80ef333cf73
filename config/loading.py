"""From files to settings: finds keepwatch.toml, merges conf.d, validates the whole and reports every problem at once.

Nothing here changes anything, and a configuration with any problem yields no settings at all, so that a bad reload
can never half apply.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from config import default
from config.documents import Document, read
from config.machine import STATE_DIR_VARIABLE, Machine
from config.problems import ConfigProblems
from config.references import reference_problems
from config.settings import Settings

CONFIG_VARIABLE = "KEEPWATCH_CONFIG"
PLANS = "plans"
"""Folder of the emergency plans, beside the file."""
PLACES = (Path("keepwatch.toml"), Path("/etc/keepwatch/keepwatch.toml"))
STATE_HERE = Path(".keepwatch")
"""Where `make run` keeps its state: whoever stands beside it, and has no configuration, means that."""


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


def find_state_dir(explicit: Path | None, path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the state directory to load with: ``explicit``, or without any configuration file ./.keepwatch.

    None leaves it to the environment, the file at ``path``, and the machine.
    """
    here = explicit is None and path is None and not environ.get(STATE_DIR_VARIABLE) and STATE_HERE.is_dir()
    return STATE_HERE if here else explicit


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    state_dir: Path | None = None,
    listen: str | None = None,
    machine: Machine | None = None,
) -> Settings:
    """Load and validate everything; ``path`` None takes the embedded default. Raises ConfigProblems with all of them.

    The result is whole: ``settings.daemon`` has ``state_dir`` (argument, $KEEPWATCH_STATE_DIR, the file, the
    machine's default, in this order), ``host`` and ``timezone`` filled in. ``listen`` takes the place of what the file
    says for the page. ``machine`` is looked at unless given.
    """
    return load_document(path, environ=environ, state_dir=state_dir, listen=listen, machine=machine)[0]


def load_document(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    state_dir: Path | None = None,
    listen: str | None = None,
    machine: Machine | None = None,
) -> tuple[Settings, Document]:
    """Do what :func:`load` does, and return with the settings what was written and where."""
    machine = machine or Machine.here(environ)
    chosen = state_dir or (Path(environ[STATE_DIR_VARIABLE]) if environ.get(STATE_DIR_VARIABLE) else None)
    chosen = chosen.absolute() if chosen else None
    if path is not None:
        document = read(path)
    else:
        document = Document()
        document.add(default.text(chosen or machine.state_dir), None)
    if chosen is not None:
        document.decide(("daemon", "state_dir"), str(chosen))
    if listen is not None:
        document.decide(("web", "listen"), listen)
    unread = bool(document.problems)
    problems = document.problems
    settings: Settings | None = None
    try:
        data = _with_plans(_with_machine(document, machine), path)
        settings = Settings.model_validate(data, context={"environ": environ})
    except ValidationError as errors:
        from config.explain import explain  # knows every model, to name what is wrong

        problems += [explain(error, document) for error in errors.errors(include_url=False)]
    if not unread:  # a file that could not be read may hold what the others refer to
        problems += reference_problems(document)
    if problems or settings is None:
        order = {file: index for index, file in enumerate(document.files)}
        raise ConfigProblems(sorted(problems, key=lambda problem: (order.get(problem.file, 0), problem.line or 0)))
    return settings, document


def _with_machine(document: Document, machine: Machine) -> dict[str, object]:
    """Return the document's data with the daemon's gaps filled in; what has the wrong type is left for validation."""
    written = document.data.get("daemon", {})
    if not isinstance(written, dict):
        return document.data
    daemon = {"host": machine.host, "timezone": machine.timezone, "state_dir": str(machine.state_dir), **written}
    return {**document.data, "daemon": daemon}


def _with_plans(data: dict[str, object], path: Path | None) -> dict[str, object]:
    """Return the data with the folder of the plans: beside the file, or in the state directory where there is none."""
    written, daemon = data.get("plans", {}), data.get("daemon")
    if not isinstance(written, dict) or not isinstance(daemon, dict) or not isinstance(daemon["state_dir"], str):
        return data
    beside = path.absolute().parent if path else Path(daemon["state_dir"])
    return {**data, "plans": {"folder": str(beside / PLANS), **written}}
