"""What stands under each field of a model: its help, in the sample, the schema and in problems.

Read from the models' source when somebody asks. pydantic can do it, but does it whenever a class is made, for every
model and every command: that was a quarter of a second.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from config.model import Model


@cache
def descriptions(model: type[Model]) -> Mapping[str, str]:
    """Return the docstring of each field of a model by the field's name, those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, Model):
            found |= _in_module(base.__module__).get(base.__qualname__, {})
    return found


class DescribedSchema(GenerateJsonSchema):
    """pydantic's JSON Schema, with the docstrings of the fields in it."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        """Describe the properties of one model."""
        written = super().model_schema(schema)
        model: type[Model] = schema["cls"]
        texts = descriptions(model)
        for name, field in model.model_fields.items():
            if name in texts:
                written["properties"][field.alias or name]["description"] = texts[name]
        return written


@cache
def _in_module(name: str) -> Mapping[str, Mapping[str, str]]:
    """Return the docstrings of each class of a module; none where its source is not at hand."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except OSError:
        return {}
    return {node.name: dict(_under_fields(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _under_fields(model: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(model.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                yield name, inspect.cleandoc(text)
