"""Pydantic's findings in an operator's words: where it was written, what is wrong, what would be right.

Pydantic knows models; an operator knows lines and keys. Nothing here judges a value; nothing here prints one that a
secret may stand in.
"""

import json
from collections.abc import Mapping

from pydantic_core import ErrorDetails

from config.checks.base import WEB_ADDRESS
from config.checks.snmp import OBJECT_IDENTIFIER
from config.checks.upkeep import OCTAL_MODE
from config.databases import COLUMN_OF_DATABASE, COLUMN_OF_TABLE
from config.documents import Document
from config.exporting import LISTEN
from config.fields import keys_of, look_up, may_be_shown, models_in, tags_in
from config.jobs import STORAGE_CLASS
from config.model import AT_MOST, IDENTIFIER, NAME, Model
from config.positions import Path as Keys
from config.problems import Problem
from config.settings import Settings
from config.sources import FILE_NAME
from config.wording import shown, suggestion

FORMS: Mapping[str, str] = {
    NAME: "must be 1 to 100 characters without a slash",
    IDENTIFIER: "must be 1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first",
    LISTEN: "must be an address and a port, such as 127.0.0.1:9750",
    WEB_ADDRESS: "must begin with http:// or https://",
    STORAGE_CLASS: "must be one of S3's storage classes in capitals, such as STANDARD_IA",
    COLUMN_OF_TABLE: "must be TABLE.COLUMN",
    COLUMN_OF_DATABASE: "must be DATABASE.TABLE.COLUMN",
    FILE_NAME: "must be a file's name, without a slash",
    AT_MOST: "must be a number and a duration, such as '1 per 1h'",
    OCTAL_MODE: "must be an octal mode, such as '0640'",
    OBJECT_IDENTIFIER: "must be an object identifier in numbers, such as 1.3.6.1.2.1.1.3.0",
}
"""What each pattern of the models asks for."""

_WORDING: Mapping[str, str] = {
    "string_type": "must be text in quotes",
    "secret_type": "must be text in quotes",
    "path_type": "must be a path in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false, without quotes",
    "list_type": "must be a list in brackets",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "date_type": "must be a date without quotes, such as 2027-01-31",
    "date_from_datetime_inexact": "must be a date without a time, such as 2027-01-31",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters",
    "too_short": "must not be empty",
}


def explain(error: ErrorDetails, document: Document, root: type[Model] = Settings) -> Problem:
    """Turn one of pydantic's errors about ``document``, which was to be a ``root``, into a problem."""
    location = tuple(part for part in error["loc"] if part != "[key]")
    keys, value = _as_written(location, document.data)
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            models = models_in(look_up(location[:-1], root).annotation)
            known = keys_of(models[0]) if models else []
            return document.problem(keys, f"unknown key{suggestion(str(keys[-1]), known)}")
        case "missing":
            return document.problem(keys, f"is missing: {_description(location, root)}")
        case "union_tag_not_found" | "union_tag_invalid" as kind:
            tags = tags_in(look_up(location, root).annotation)
            tag = str(context.get("tag", ""))
            wrong = "is missing" if kind == "union_tag_not_found" else "unknown type"
            got = json.dumps(tag, ensure_ascii=False) if tag else None
            return document.problem((*keys, "type"), f"{wrong}{suggestion(tag, tags)}", got)
        case "literal_error":
            known = [option.strip("'") for option in str(context["expected"]).replace(" or ", ", ").split(", ")]
            problem = f"must be {' or '.join(map(repr, known))}"
        case "string_pattern_mismatch":
            problem = FORMS.get(context["pattern"], f"must match {context['pattern']}")
        case "value_error":
            problem = str(context["error"])
            value = None if isinstance(value, dict | list) else value  # the whole is judged there, not its kind
        case "list_type" if isinstance(value, dict):
            problem = f"is a list of tables; write [[{keys[-1]}]]"
        case "model_type" | "dict_type" if isinstance(value, list):
            problem = f"is one table; write [{keys[-1]}]"
        case kind:
            wording = _WORDING.get(kind)
            problem = wording.format(**context) if wording else error["msg"].replace("Input should", "must")
    return document.problem(keys, problem, shown(value) if may_be_shown(look_up(location, root).field) else None)


def _as_written(location: Keys, data: object) -> tuple[Keys, object]:
    """Return the path an operator would write for pydantic's location, and the value there (None when missing).

    Locations also hold the tags of unions and the indices and keys of short forms, which stand in no file.
    """
    keys: list[str | int] = []
    for place, part in enumerate(location):
        last = place == len(location) - 1
        if isinstance(data, dict) and isinstance(part, str):
            if part in data:
                keys, data = [*keys, part], data[part]
            elif part != data.get("type"):
                return (*keys, part) if last else tuple(keys), None
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            keys, data = [*keys, part], data[part]
    return tuple(keys), data


def _description(location: Keys, root: type[Model]) -> str:
    text = look_up(location, root).description
    first = text.partition(";")[0].strip().rstrip(".")
    return first[:1].lower() + first[1:] if not first[:2].isupper() else first
