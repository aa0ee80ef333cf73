"""One of many models by its ``type``, each made ready when it is first met.

pydantic's own discriminated union makes all of its members ready with the union: of sixty types of checks the daemon
would hold sixty validators in memory, and use ten. Locations and errors are those of pydantic's union, so that whoever
reads them need not know; the JSON Schema is the union's own.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, SchemaValidator, core_schema


class ChosenByType:
    """Annotation of a union of models that each have a ``type``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        models = {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(source)}

        def choose(value: Any, info: ValidationInfo) -> Any:
            tag = _tag(value, models)
            return _validator(tag, models[tag]).validate_python(value, context=info.context)

        return core_schema.with_info_plain_validator_function(choose, metadata={"models": tuple(models.values())})

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        models: tuple[type[BaseModel], ...] = schema["metadata"]["models"]
        tags = {get_args(model.model_fields["type"].annotation)[0]: model for model in models}
        choices = {tag: _ready(model) for tag, model in tags.items()}
        return handler(core_schema.tagged_union_schema(choices, "type"))


def _tag(value: Any, models: Mapping[str, type[BaseModel]]) -> str:
    if isinstance(value, BaseModel):
        value = {"type": getattr(value, "type", None)}
    if not isinstance(value, dict):
        raise PydanticKnownError("model_attributes_type")
    if "type" not in value:
        raise PydanticKnownError("union_tag_not_found", {"discriminator": "'type'"})
    if not isinstance(value["type"], str) or value["type"] not in models:
        expected = ", ".join(f"'{tag}'" for tag in models)
        about = {"discriminator": "'type'", "tag": str(value["type"]), "expected_tags": expected}
        raise PydanticKnownError("union_tag_invalid", about)
    return str(value["type"])


@cache
def _validator(tag: str, model: type[BaseModel]) -> SchemaValidator:
    return SchemaValidator(core_schema.tagged_union_schema({tag: _ready(model)}, "type"))


def _ready(model: type[BaseModel]) -> CoreSchema:
    model.model_rebuild()
    return model.__pydantic_core_schema__
