"""Mounts functions as commands: what several options say together reaches a command as one value.

A parameter whose type is a dataclass is unfolded: its fields, annotated as options, become options of the command, and
the command is called with the dataclass made of them. So ``--config`` and ``--state-dir`` are written down once, in
``Setup``. Nothing is registered on import; each module mounts its own commands when the table asks for it.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import wraps
from typing import Any, get_type_hints

import typer

USUAL_CODES = "0 done; 1 failed; 2 usage or configuration"


def exit_status(example: str, codes: str = USUAL_CODES) -> str:
    """Return what every ``--help`` ends with: an example and the exit codes."""
    return f"Example: {example}\n\nEXIT STATUS: {codes}"


def mount(
    app: typer.Typer, command: Callable[..., int | None], example: str, codes: str = USUAL_CODES, *, name: str = ""
) -> None:
    """Add a command by its function's name, or ``name``; its exit status is what the function returns."""
    app.command(name or command.__name__, epilog=exit_status(example, codes))(_unfolded(command))


def _unfolded(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Return ``command`` as typer has to see it: its own options first, then those of its dataclasses."""
    parameters = _parameters(command)

    @wraps(command)
    def call(**given: Any) -> int | None:
        return command(**_arguments(command, "", given))

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _parameters(made: Callable[..., Any], prefix: str = "") -> list[inspect.Parameter]:
    """List the options that ``made`` is called with, a function or a dataclass, those of parts last."""
    own, of_parts = [], []
    for name, parameter, kind in _wanted(made):
        if part := _part(kind):
            of_parts += _parameters(part, f"{prefix}{name}_")
        else:
            own.append(parameter.replace(name=prefix + name, annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
    return own + of_parts


def _arguments(made: Callable[..., Any], prefix: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Gather from all options what ``made`` is called with."""
    return {
        name: part(**_arguments(part, f"{prefix}{name}_", given)) if (part := _part(kind)) else given[prefix + name]
        for name, _, kind in _wanted(made)
    }


def _part(kind: Any) -> Callable[..., Any] | None:
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def _wanted(made: Callable[..., Any]) -> list[tuple[str, inspect.Parameter, Any]]:
    hints = get_type_hints(made, include_extras=True)
    return [(name, parameter, hints[name]) for name, parameter in inspect.signature(made).parameters.items()]
