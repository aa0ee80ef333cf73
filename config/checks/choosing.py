"""One of many models by its ``type``, each imported and made ready when it is first met.

pydantic's own discriminated union makes all of its members ready with the union: of seventy types of checks every
command would build seventy validators, and use ten. Locations and errors are those of pydantic's union, so that whoever
reads them need not know; the JSON Schema is the union's own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, SchemaValidator, core_schema


@dataclass(frozen=True, slots=True)
class ChosenByType:
    """Annotation of a value that is an instance of one of several models, told by their ``type``."""

    types: Sequence[str]
    model: Callable[[str], type[BaseModel]]
    """The model of a type; asked only for types that are met."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._choose)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core_schema.tagged_union_schema({one: _ready(self.model(one)) for one in self.types}, "type"))

    def _choose(self, value: Any, info: ValidationInfo) -> Any:
        chosen = self._type_in(value)
        return _validator(chosen, self.model(chosen)).validate_python(value, context=info.context)

    def _type_in(self, value: Any) -> str:
        if isinstance(value, BaseModel):
            value = {"type": getattr(value, "type", None)}
        if not isinstance(value, dict):
            raise PydanticKnownError("model_attributes_type")
        if "type" not in value:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "'type'"})
        if not isinstance(value["type"], str) or value["type"] not in self.types:
            expected = ", ".join(f"'{one}'" for one in self.types)
            about = {"discriminator": "'type'", "tag": str(value["type"]), "expected_tags": expected}
            raise PydanticKnownError("union_tag_invalid", about)
        return value["type"]


def tag_of(model: type[BaseModel]) -> str | None:
    """Return the ``type`` that chooses a model, where there is a choice."""
    tag = model.model_fields.get("type")
    return str(get_args(tag.annotation)[0]) if tag and get_origin(tag.annotation) is Literal else None


@cache
def _validator(chosen: str, model: type[BaseModel]) -> SchemaValidator:
    return SchemaValidator(core_schema.tagged_union_schema({chosen: _ready(model)}, "type"))


def _ready(model: type[BaseModel]) -> CoreSchema:
    model.model_rebuild()
    return model.__pydantic_core_schema__
