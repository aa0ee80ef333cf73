"""What the settings models say about a path: which model stands there, which field, and whether it may be shown.

Follows types, never values; the one thing it needs to know of the document is the tag of a discriminated union, which
pydantic puts into the locations of its errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from config.checks.choosing import ChosenByType, tag_of
from config.docstrings import descriptions
from config.model import Model
from config.settings import Settings


@dataclass(frozen=True, slots=True)
class Place:
    """What the models say of a path."""

    annotation: Any
    """The type there; None where they say nothing, as below an unknown key."""
    field: FieldInfo | None = None
    """The innermost field on the way."""
    description: str = ""
    """What stands under it."""


def key_of(name: str, field: FieldInfo) -> str:
    """Return the key an operator writes for a field."""
    return field.alias or name


def keys_of(model: type[Model]) -> list[str]:
    """Return every key that a table of this model may have."""
    return [key_of(name, field) for name, field in model.model_fields.items()]


def models_in(annotation: Any) -> list[type[Model]]:
    """Return the models that a type allows, through Optional, Annotated and unions, not through lists and tables."""
    if choice := _choice_in(annotation):
        return [_model(choice, one) for one in choice.types]
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
        if choice := _choice_in(here):
            ahead += [choice.model(one) for one in choice.types]
        elif isinstance(here, type) and issubclass(here, Model):
            if here not in found:
                found[here] = None
                ahead += [field.annotation for field in here.model_fields.values()]
        else:
            ahead += get_args(here)
    return list(found)


def tags_in(annotation: Any) -> list[str]:
    """Return every ``type`` that a type of settings lets the operator choose from."""
    if choice := _choice_in(annotation):
        return list(choice.types)
    return [tag for model in models_in(annotation) if (tag := tag_of(model))]


def look_up(location: Sequence[str | int], root: type[Model] = Settings) -> Place:
    """Follow one of pydantic's locations from ``root``."""
    place = Place(root)
    for part in location:
        place = _next(place, part)
    return place


def _next(place: Place, part: str | int) -> Place:
    choice = _choice_in(place.annotation)
    if choice and part in choice.types:
        return Place(_model(choice, str(part)), place.field, place.description)
    models = models_in(place.annotation)
    tagged = [model for model in models if len(models) > 1 and tag_of(model) == part]
    if tagged:
        return Place(tagged[0], place.field, place.description)
    if not models:
        return Place(_item_of(place.annotation), place.field, place.description)
    for name, field in models[0].model_fields.items():
        if key_of(name, field) == part:
            return Place(field.annotation, field, descriptions(models[0]).get(name, ""))
    return Place(None)


def may_be_shown(field: FieldInfo | None) -> bool:
    """Tell whether a field's value is fit for a terminal: known, and not one that bears secrets."""
    return field is not None and field.repr and not _holds_secret(field.annotation)


def _choice_in(annotation: Any) -> ChosenByType | None:
    if get_origin(annotation) is not Annotated:
        return None
    return next((one for one in get_args(annotation)[1:] if isinstance(one, ChosenByType)), None)


def _model(choice: ChosenByType, tag: str) -> type[Model]:
    return cast(type[Model], choice.model(tag))


def _item_of(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _item_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return next((item for option in get_args(annotation) if (item := _item_of(option)) is not None), None)
    return get_args(annotation)[-1] if get_origin(annotation) in (list, dict) else None


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))
