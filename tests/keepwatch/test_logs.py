import json
import logging

from keepwatch.logs import JsonFormatter, TextFormatter


def record(message="run ended", level=logging.INFO, **fields):
    made = logging.LogRecord("keepwatch.dispatcher", level, __file__, 1, message, (), None)
    made.created = 1_767_225_600.5
    vars(made).update(fields)
    return made


def test_a_text_line_is_key_and_value_with_the_event_first():
    line = TextFormatter().format(record(job="docs", result='said "no"', empty=""))
    assert line == (
        '2026-01-01T00:00:00Z info keepwatch.dispatcher event="run ended" job=docs result="said \\"no\\"" empty=""'
    )


def test_what_a_field_says_cannot_forge_a_second_line():
    assert "\n" not in TextFormatter().format(record(reason="bad\n2026-01-01T00:00:00Z info all is well"))


def test_a_json_line_holds_the_same_fields():
    row = json.loads(JsonFormatter().format(record(job="docs", run=7)))
    assert row == {
        "at": "2026-01-01T00:00:00.500+00:00", "level": "info", "logger": "keepwatch.dispatcher", "event": "run ended",
        "job": "docs", "run": 7,
    }  # fmt: skip


def test_a_bug_keeps_its_traceback():
    try:
        raise ValueError("odd")
    except ValueError:
        import sys

        made = record()
        made.exc_info = sys.exc_info()
    assert "ValueError: odd" in TextFormatter().format(made)
    assert "ValueError: odd" in json.loads(JsonFormatter().format(made))["traceback"]
