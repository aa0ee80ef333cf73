"""Whoever can reach the page can report for a job, so its address has to be a secret there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from config.problems import Problem
from config.settings import Settings

Write = Callable[..., Path]
Find = Callable[[Path], list[Problem]]
HEARTBEAT = '[[checks]]\nname = "nightly"\ntype = "heartbeat"\n'
OUTSIDE = '[web]\nlisten = "0.0.0.0:9750"\nweb_config_file = "/etc/keepwatch/web.config.yml"\n'


@pytest.mark.parametrize("text", [HEARTBEAT, OUTSIDE + HEARTBEAT + 'token = "s3cret"\n'])
def test_a_heartbeat_at_home_or_with_a_token_is_fine(text: str, write: Write, loaded: Callable[..., Settings]) -> None:
    assert loaded(write(text)).checks[0].name == "nightly"


def test_a_heartbeat_that_others_can_reach_needs_a_token(write: Write, problems: Find) -> None:
    (problem,) = problems(write(OUTSIDE + HEARTBEAT))
    assert "a heartbeat needs a token where others can reach the page" in str(problem)
