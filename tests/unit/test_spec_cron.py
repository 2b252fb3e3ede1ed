"""Cron texts: what is due when, also where the clock changes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings, strategies as st

from smtpprobe import cron


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def runs(text: str, zone: str, start: str, count: int) -> list[str]:
    found, moment = [], utc(start)
    for _ in range(count):
        following = cron.after(text, zone, moment)
        assert following is not None
        found.append(f"{following:%m-%d %H:%M}")
        moment = following
    return found


def test_runs_follow_the_zone() -> None:
    """08:00 in Seoul is 23:00 UTC of the day before."""
    assert runs("0 8 * * *", "Asia/Seoul", "2026-11-22T00:00", 2) == ["11-22 23:00", "11-23 23:00"]


def test_a_run_inside_the_gap_comes_once_right_after_it() -> None:
    """Berlin, 29 March 2026: 02:30 does not exist; the run comes at 03:00 (01:00 UTC), and only once."""
    assert runs("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["03-29 01:00", "03-30 00:30"]
    assert runs("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 3) == ["03-29 01:00", "03-30 00:00", "03-30 00:30"]


def test_a_run_inside_the_repeated_hour_comes_once() -> None:
    """Berlin, 25 October 2026: 02:30 comes twice by the clock, the run once, at the first of them (00:30 UTC)."""
    assert runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == ["10-25 00:30", "10-26 01:30"]


def test_every_quarter_of_an_hour_follows_real_time_over_both_changes() -> None:
    """A text with * in the minutes has its runs 15 minutes apart, gap or not."""
    for start in ("2026-03-29T00:00", "2026-10-25T00:00"):
        moment = utc(start)
        for _ in range(16):
            following = cron.after("*/15 * * * *", "Europe/Berlin", moment)
            assert following == moment + timedelta(minutes=15)
            moment = following


ZONES = ["UTC", "Asia/Seoul", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo"]
TEXTS = ["*/15 8-19 * * 1-5", "30 2 * * *", "0,30 1-3 * * *", "5 4 29 2 *", "* * * * *", "59 23 31 12 *", "0 0 1 * MON"]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TEXTS), st.sampled_from(ZONES), st.integers(1700000000, 1900000000))
def test_before_and_after_agree(text: str, zone: str, seconds: int) -> None:
    """The last run before the next one is not after the moment, and the next after the last one is beyond it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    following, last = cron.after(text, zone, moment), cron.before(text, zone, moment)
    assert following is not None
    assert last is not None
    assert last <= moment < following
    assert cron.after(text, zone, last) == following
    assert cron.before(text, zone, following) == following


def test_a_moment_that_is_a_run_is_before_and_not_after() -> None:
    """A slot that begins now is due now."""
    moment = utc("2026-11-22T08:00")
    assert cron.before("0 8 * * *", None, moment) == moment
    assert cron.after("0 8 * * *", None, moment) == moment + timedelta(days=1)
    assert cron.before("0 8 * * *", None, moment + timedelta(microseconds=1)) == moment


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("* * * * *", 1),
        ("*/15 * * * *", 15),
        ("*/7 * * * *", 4),
        ("0,58 * * * *", 2),
        ("0,58 8 * * *", 58),
        ("0 0 * * *", 1440),
        ("30 23,0 * * *", 60),
        ("59 23 * * *", 1440),
        ("0,59 0,23 * * *", 1),
    ],
)
def test_shortest_gap(text: str, minutes: int) -> None:
    """The shortest time between two runs counts over the hour and over midnight."""
    assert cron.shortest_gap(text) == minutes * 60


@pytest.mark.parametrize("zone", ["Asia/Seoul", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+9"])
def test_zones_of_the_database_are_known(zone: str) -> None:
    """Names of the IANA database are accepted."""
    assert cron.is_zone(zone)


@pytest.mark.parametrize("zone", ["", "Asia/Busan", "asia/seoul", "KST", "localtime", "/etc/localtime", "Asia"])
def test_other_words_are_no_zones(zone: str) -> None:
    """Neither a folder of the database, nor a path, nor another spelling is a time zone."""
    assert not cron.is_zone(zone)
