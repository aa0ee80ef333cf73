"""Windows of the week: what is in, what is out, what cannot be read; and the rates that go with them."""

from datetime import datetime

import pytest

from config.jobs import RepositorySettings
from config.units import parse_rate, rate_text
from config.windows import WeeklyWindow


@pytest.mark.parametrize(
    ("written", "inside", "outside"),
    [
        ("mon-fri 08:00-19:00", ["02T08:00", "06T18:59"], ["02T07:59", "02T19:00", "07T12:00", "08T12:00"]),
        ("sat,sun 00:00-24:00", ["07T00:00", "08T23:59"], ["06T23:59", "09T00:00"]),
        ("22:00-06:00", ["02T22:00", "03T05:59", "08T23:00"], ["02T06:00", "02T21:59"]),
        ("fri 22:00-06:00", ["06T22:00", "07T05:59"], ["06T05:00", "07T22:30"]),
        ("sat-mon 10:00-11:00", ["07T10:00", "08T10:30", "02T10:59"], ["03T10:00"]),
        ("Daily 9:30 - 10:00", ["02T09:30"], ["02T10:00"]),
    ],
)
def test_a_window_holds_its_moments_and_no_others(written: str, inside: list[str], outside: list[str]) -> None:
    window = WeeklyWindow.parse(written)
    assert [at for at in inside if not window.contains(datetime.fromisoformat(f"2026-03-{at}"))] == []
    assert [at for at in outside if window.contains(datetime.fromisoformat(f"2026-03-{at}"))] == []


@pytest.mark.parametrize(
    "written", ["", "mon", "mon-fri", "08:00", "08:00-08:00", "24:00-06:00", "25:00-26:00", "mon-xyz 1:00-2:00", 5]
)
def test_what_is_no_window_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"window|day of the week"):
        WeeklyWindow.parse(written)


@pytest.mark.parametrize("written", ["20 MiB/s", "1500 kB/s", "7 B/s", "unlimited"])
def test_a_rate_is_written_as_it_was_read(written: str) -> None:
    assert rate_text(parse_rate(written)) == written


def test_a_repository_keeps_its_limits_and_windows() -> None:
    settings = RepositorySettings.model_validate({
        "url": "s3:https://host/bucket", "password_file": "/p", "upload_limit": "20 MiB/s",
        "upload_limit_windows": {"mon-fri 08:00-19:00": "2 MiB/s", "sat 00:00-24:00": "unlimited"},
    })  # fmt: skip
    assert settings.upload_limit == 20 << 20
    assert settings.upload_limit_windows == {"mon-fri 08:00-19:00": 2 << 20, "sat 00:00-24:00": float("inf")}
    assert settings.is_s3
