"""The guard: every disaster is told in figures, ordinary life is left in peace."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.guard import Emptied, Figures, Past, ending_of, is_log, judge, touched_share
from config.jobs import GuardSettings
from tests.backup.offices import KIB, PACKED, TEXT, Office, office

DISASTERS: dict[str, tuple[Callable[[Office], object], str]] = {
    "all files encrypted in place": (lambda o: o.encrypt(1), "100 % of the 200 files"),
    "all files encrypted and renamed": (lambda o: o.encrypt(1, ".locked"), "most of them '.locked'"),
    "a third encrypted when the backup came": (lambda o: o.encrypt(1 / 3), "does not compress any more"),
    "half renamed": (lambda o: o.encrypt(1 / 2, ".crypt"), "endings that no file had before"),
    "everything gone": (lambda o: o.files.clear(), "100 % of the files are gone: 0 instead of about 200"),
    "most files gone": (lambda o: [o.tidy(0.5), o.tidy(0.5)], "75 % of the files are gone"),
    "all files cut to nothing": (
        lambda o: [o.write(path, 0) for path in list(o.files)], "100 % of the bytes are gone: 0 B instead of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("disaster", DISASTERS)
def test_a_disaster_is_told_in_words_and_figures(disaster: str) -> None:
    happen, words = DISASTERS[disaster]
    source = office()
    happen(source)
    assert words in "; ".join(source.snapshot())


@pytest.mark.parametrize("disaster", DISASTERS)
def test_a_disaster_goes_on_being_told_while_what_is_trusted_is_from_before(disaster: str) -> None:
    source = office()
    DISASTERS[disaster][0](source)
    assert source.snapshot()
    if "gone" in disaster or "nothing" in disaster:
        assert source.snapshot()


@pytest.mark.parametrize("disaster", DISASTERS)
def test_a_guard_that_is_off_says_nothing(disaster: str) -> None:
    source = office(settings=GuardSettings(off=True))
    DISASTERS[disaster][0](source)
    assert source.snapshot() == ()


def test_a_decline_in_steps_is_seen_as_a_fall() -> None:
    source = office()
    told = []
    for _ in range(4):
        source.tidy(1 / 3)
        told += source.snapshot()
    assert any("of the files are gone" in reason for reason in told)


def test_an_emptied_source_path_is_told_whatever_the_rest_of_the_source_does() -> None:
    figures = Figures(1000, 10**9, 970, 0, 0)
    gone = Emptied("/mnt/archive", 30, 5000)
    (reason,) = judge(figures, figures, Past([figures]), [gone], lambda: None, lambda: None, GuardSettings())
    assert reason.startswith("/mnt/archive is empty or gone, and had 30 files, 4.88 KiB")
    few = Emptied("/mnt/spool", 19, 5000)
    assert judge(figures, figures, Past([figures]), [few], lambda: None, lambda: None, GuardSettings()) == ()


def test_what_cannot_be_looked_at_closer_is_judged_by_its_figures() -> None:
    before = Figures(100, 10**8, 100, 0, 0)
    now = Figures(100, 10**6, 90, 0, 0)
    (reason,) = judge(now, before, Past([before]), [], lambda: None, lambda: None, GuardSettings())
    assert "99 % of the bytes are gone" in reason


def test_settings_move_the_bounds() -> None:
    source = office(settings=GuardSettings(shrink="20%"))
    source.tidy(1 / 3)
    assert "33 % of the files are gone" in source.snapshot()[0] or source.past[-1][0].files == 200
    strict = office(settings=GuardSettings(at_least_files=1000))
    strict.encrypt(1, ".locked")
    assert strict.snapshot() == (), "a source of fewer files is not judged"


# ---- ordinary life


def test_a_first_snapshot_is_not_judged() -> None:
    nothing = Figures(0, 0, 0, 0, 0)
    assert judge(nothing, nothing, Past([]), [], lambda: None, lambda: None, GuardSettings()) == ()


@pytest.mark.parametrize(
    "live",
    [
        lambda o: o.change_owner(),
        lambda o: o.add(1000, 3 << 20, PACKED, ".jpg"),
        lambda o: o.add(5000, KIB, TEXT, ".xml"),
        lambda o: [o.work(0.5)],
        lambda o: o.tidy(1 / 3),
        lambda o: o.work(0),
        lambda o: [o.add(20, 1 << 20, PACKED, ".zip"), o.work(0.15)],
    ],
)
def test_a_busy_day_is_left_in_peace(live: Callable[[Office], object]) -> None:
    source = office()
    live(source)
    assert source.snapshot() == ()


def test_a_log_that_dwarfs_everything_may_be_rotated_away() -> None:
    source = office(60)
    source.log(2 << 30)
    assert source.snapshot() == ()
    source.write("log/app.log", 0)
    assert source.snapshot() == ()


def test_a_source_that_always_changes_altogether_may_do_so_once_somebody_agreed() -> None:
    source = office()
    told = []
    for _ in range(8):
        for path in list(source.files):
            source.write(path, source.files[path].size)
        told.append(source.snapshot())
        if told[-1]:
            source.agree()
    assert told[0]
    assert told[1:] == [()] * 7
    source.encrypt(1)
    assert "does not compress any more" in source.snapshot()[0]


def test_one_agreed_migration_does_not_blind_the_guard() -> None:
    source = office()
    for path in list(source.files):
        source.write(path, source.files[path].size)
    assert source.snapshot()
    source.agree()
    for _ in range(3):
        source.work(0.02)
        assert source.snapshot() == ()
    for path in list(source.files):
        source.write(path, source.files[path].size)
    assert source.snapshot()


def test_a_queue_that_runs_empty_again_and_again_is_left_in_peace_once_somebody_agreed_twice() -> None:
    source, told = Office(), []
    for day in range(12):
        source.files = {}
        source.add(30 if day % 2 else 500, 10 * KIB, TEXT, ".job")
        told.append(any("instead of about" in reason for reason in source.snapshot()))
        if source.past[-1] != source.latest:
            source.agree()
    assert any(told)
    assert told[4:] == [False] * 8


def test_a_change_that_was_agreed_to_is_the_new_normal() -> None:
    small = Figures(40, 10**6, 40, 0, 0)
    big = Figures(500, 10**8, 500, 0, 0)
    past = [big] * 5
    assert judge(small, big, Past(past), [], lambda: None, lambda: None, GuardSettings())
    assert judge(small, small, Past([*past, small], 5), [], lambda: None, lambda: None, GuardSettings()) == ()


days = st.lists(
    st.one_of(
        st.tuples(st.just("work"), st.sampled_from([0.0, 0.02, 0.1, 0.2])),
        st.tuples(st.just("add"), st.integers(1, 300), st.integers(1, 4 << 20), st.sampled_from([TEXT, PACKED]),
                  st.sampled_from([".pdf", ".jpg", ".txt", ""])),
        st.tuples(st.just("tidy"), st.sampled_from([0.01, 0.03])),
        st.tuples(st.just("change_owner")),
        st.tuples(st.just("log"), st.integers(0, 200 << 20)),
        st.tuples(st.just("rotate"), st.integers(2, 9)),
    ),
    min_size=1,
    max_size=25,
)  # fmt: skip
lives = settings(max_examples=150, deadline=None)


def live(source: Office, acts: list[tuple]) -> None:
    for name, *arguments in acts:
        getattr(source, name)(*arguments)


@lives
@given(st.lists(days, min_size=1, max_size=6))
def test_no_plausible_history_raises_an_alarm(history: list[list[tuple]]) -> None:
    source = office(120)
    for day in history:
        for act in day:
            live(source, [act])
            assert source.snapshot() == (), act


@lives
@given(days, st.sampled_from([".locked", ".enc", ""]))
def test_after_any_plausible_history_encryption_of_everything_is_seen(acts: list[tuple], ending: str) -> None:
    source = office(120)
    for act in acts:
        live(source, [act])
        source.snapshot()
    source.encrypt(1, ending)
    assert source.snapshot()


@lives
@given(days)
def test_after_any_plausible_history_an_emptied_source_is_seen(acts: list[tuple]) -> None:
    source = office(120)
    for act in acts:
        live(source, [act])
        source.snapshot()
    source.files.clear()
    assert source.snapshot()


# ---- parts


def test_only_what_was_there_can_be_touched() -> None:
    assert touched_share(Figures(1000, 0, 100, 0, 0), Figures(100, 0, 0, 0, 0)) == 0
    assert touched_share(Figures(1000, 0, 25, 0, 0), Figures(100, 0, 0, 0, 0)) == 0.75
    assert touched_share(Figures(0, 0, 0, 0, 0), Figures(0, 0, 0, 0, 0)) == 0


@pytest.mark.parametrize(
    ("name", "ending"),
    [(b"a.TXT", b".txt"), (b".bashrc", b""), (b"a", b""), (b"app.log.12", b".0"), (b"x.tar.gz", b".gz"), (b"a.", b""),
     (b"app-1.log-20260301", b".log-0"), (b"\xff.\xfe", b".\xfe")],
)  # fmt: skip
def test_an_ending_is_what_follows_the_last_dot_without_its_numbers(name: bytes, ending: bytes) -> None:
    assert ending_of(name) == ending


def test_logs_are_known_by_folder_or_name() -> None:
    assert all(map(is_log, [b"/var/log/syslog", b"/srv/logs/a", b"/srv/app.log", b"/srv/app.log.1", b"/x/APP.LOG-2"]))
    assert not any(map(is_log, [b"/srv/catalog/a", b"/srv/a.logic", b"/srv/blog.txt"]))
