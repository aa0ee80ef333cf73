"""What the settings models say about a path: which model stands there, which field, and whether it may be shown.

Follows types, never values; the one thing it needs to know of the document is the tag of a discriminated union, which
pydantic puts into the locations of its errors.
"""

from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from config.model import Model
from config.settings import Settings


def key_of(name: str, field: FieldInfo) -> str:
    """Return the key an operator writes for a field."""
    return field.alias or name


def keys_of(model: type[Model]) -> list[str]:
    """Return every key that a table of this model may have."""
    return [key_of(name, field) for name, field in model.model_fields.items()]


def models_in(annotation: Any) -> list[type[Model]]:
    """Return the models that a type allows, through Optional, Annotated and unions, not through lists and tables."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return models_in(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [model for option in get_args(annotation) for model in models_in(option)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, Model) else []


def models_of(annotation: Any) -> list[type[Model]]:
    """Return every model that can stand in a type or anywhere below it."""
    found: dict[type[Model], None] = {}
    ahead = [annotation]
    while ahead:
        here = ahead.pop()
        if isinstance(here, type) and issubclass(here, Model):
            if here not in found:
                found[here] = None
                ahead += [field.annotation for field in here.model_fields.values()]
        else:
            ahead += get_args(here)
    return list(found)


def tag_of(model: type[Model]) -> str | None:
    """Return the ``type`` that chooses this model, where there is a choice."""
    tag = model.model_fields.get("type")
    return str(get_args(tag.annotation)[0]) if tag and get_origin(tag.annotation) is Literal else None


def look_up(location: Sequence[str | int], root: type[Model] = Settings) -> tuple[Any, FieldInfo | None]:
    """Follow one of pydantic's locations from ``root``; return the type there and the innermost field on the way.

    Returns the type None where the models say nothing, as below an unknown key.
    """
    annotation: Any = root
    field: FieldInfo | None = None
    for part in location:
        models = models_in(annotation)
        tagged = [model for model in models if len(models) > 1 and tag_of(model) == part]
        if tagged:
            annotation = tagged[0]
        elif models:
            by_key = {key_of(name, found): found for name, found in models[0].model_fields.items()}
            field = by_key.get(str(part))
            annotation = field.annotation if field else None
        else:
            annotation = _item_of(annotation)
    return annotation, field


def may_be_shown(field: FieldInfo | None) -> bool:
    """Tell whether a field's value is fit for a terminal: known, and not one that bears secrets."""
    return field is not None and field.repr and not _holds_secret(field.annotation)


def _item_of(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _item_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return next((item for option in get_args(annotation) if (item := _item_of(option)) is not None), None)
    return get_args(annotation)[-1] if get_origin(annotation) in (list, dict) else None


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))
