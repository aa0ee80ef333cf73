"""Settings of alerting: what they accept, what they refuse, and where they say so."""

import tomllib
from datetime import timedelta
from pathlib import Path

import pytest

from config.loading import load
from config.notify import NotifySettings
from config.problems import ConfigProblems

CHECK = '[[checks]]\nname = "disk"\ntype = "disk"\n'
CHANNEL = '[[notify]]\nname = "ops"\nurl = "json://x"\n'


def loaded(tmp_path: Path, text: str):
    path = tmp_path / "keepwatch.toml"
    path.write_text(text)
    return load(path, environ={}, state_dir=tmp_path / "state")


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigProblems) as caught:
        loaded(tmp_path, text)
    return "\n".join(str(problem) for problem in caught.value.problems)


def test_quiet_hours_are_a_window_or_one_for_each_severity() -> None:
    plain = NotifySettings(name="a", url="json://x", quiet_hours="22:00-07:00").quiet_hours
    assert (plain.warning, plain.critical) == ("22:00-07:00", None)
    both = {"warning": "22:00-07:00", "critical": "sun 00:00-24:00"}
    assert NotifySettings(name="a", url="json://x", quiet_hours=both).quiet_hours.critical == "sun 00:00-24:00"


def test_a_rate_is_read_as_numbers() -> None:
    assert NotifySettings(name="a", url="json://x", at_most="20 per 1h").limit == (20, timedelta(hours=1))
    assert NotifySettings(name="a", url="json://x").limit is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CHANNEL + 'quiet_hours = "at night"\n', "not a window of the week"),
        (CHANNEL + 'fallback = "ops"\n', "no other channel is named 'ops'"),
        (CHANNEL + 'fallback = "smss"\n[[notify]]\nname = "sms"\nurl = "json://y"\n', "did you mean 'sms'"),
        (CHANNEL + 'at_most = "many"\n', "at_most"),
        (CHECK + "min_samples = 3\nof_samples = 2\n", "3 bad ones do not fit into it"),
        (CHECK + 'depends_on = [["a", "disk"]]\n', "no check is named 'a'"),
        (CHECK + 'depends_on = [["disk"]]\n', "in a circle"),
        (CHECK + 'forecast = { reaches = "100%" }\n', "neither when it is a warning"),
        (CHECK + 'forecast = { reading = "usd", reaches = "100%", warning = "1d" }\n', "no such reading"),
        (CHECK + 'forecast = { reaches = "10 GiB", warning = "1d" }\n', "measured in ratio, not in bytes"),
        ('[[maintenance]]\nname = "m"\n', "says not when"),
        ('[[maintenance]]\nname = "m"\nwindow = "02:00-03:00"\nmatchers = ["check"]\n', "not a matcher"),
    ],
)
def test_what_cannot_be_meant_is_told_in_words(tmp_path: Path, text: str, words: str) -> None:
    assert words in problems(tmp_path, text)


def test_everything_of_alerting_can_be_written_at_once(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        CHECK
        + """
for = "5m"
retry_interval = "5s"
min_samples = 3
of_samples = 5
depends_on = [["line 1", "line 2"]]
forecast = [{ reaches = "100%", warning = { within = "24h", when = "> 60%" }, critical = "4h" }]
on_critical = { run = "clean", at_most = "2 per 1h", cooldown = "10m" }
"""
        + "".join(f'[[checks]]\nname = "line {n}"\ntype = "tcp"\nport = {n}\n' for n in (1, 2))
        + CHANNEL
        + 'quiet_hours = { warning = "22:00-07:00" }\nescalate_after = "30m"\nat_most = "20 per 1h"\nfallback = "sms"\n'
        + '[[notify]]\nname = "sms"\nurl = "json://y"\nseverities = []\n'
        + '[[maintenance]]\nname = "once"\nstarts_at = 2030-01-31T22:00:00\nends_at = 2030-02-01T02:00:00\n'
        + '[[maintenance]]\nname = "often"\nschedule = "monthly 1 03:00"\nlasting = "2h"\ntimezone = "Asia/Shanghai"\n'
        + '[history]\nraw = "24h"\nmax_size = "1 GiB"\n',
    )
    check = settings.checks[0]
    assert (check.of_samples, check.retry_interval) == (5, timedelta(seconds=5))
    assert check.depends_on == [["line 1", "line 2"]]
    assert check.forecast[0].critical.within == timedelta(hours=4)
    assert settings.history.max_size == 2**30
    assert [one.name for one in settings.maintenance] == ["once", "often"]


def test_the_sample_names_every_key_of_channels_and_maintenance() -> None:
    from config.sample import sample

    text = sample(Path("/var/lib/keepwatch"))
    for key in ("quiet_hours", "escalate_after", "at_most", "fallback", "[[maintenance]]", "#forecast", "#of_samples"):
        assert key in text
    assert tomllib.loads(text)["checks"]
