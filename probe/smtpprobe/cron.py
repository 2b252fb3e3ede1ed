"""Cron texts and time zones: five fields as in Debian's cron, read by cronsim. Pure; the clock is an argument.

Where the clock is put forward, a run at a fixed time inside the gap comes at the first minute after it; where it is put
back, such a run comes once. A text whose minute or hour begins with ``*`` follows real time instead: nothing is due in
the gap, and the repeated hour has its runs twice.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

_MONTHS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_DAYS = "SUN|MON|TUE|WED|THU|FRI|SAT"
_SHAPE = re.compile(
    r"([*,/-]|\b[0-5]?[0-9]\b)+ +([*,/-]|\b(1?[0-9]|2[0-3])\b)+ +([*,/-]|\b([12]?[0-9]|3[01])\b)+ +"
    rf"([*,/-]|\b([0-9]|1[0-2]|{_MONTHS})\b)+ +([*,/-]|\b([0-7]|{_DAYS})\b)+",
    re.ASCII | re.IGNORECASE,
)
_FIELDS = (
    "write five fields: minute (0-59), hour (0-23), day (1-31), month (1-12), weekday (0-7), "
    'for example "*/15 8-19 * * 1-5"'
)
_ANY_DAY = datetime(2028, 1, 1, tzinfo=UTC)


def fault(text: str) -> str | None:
    """Return what to write instead of a text that cannot be used, else None."""
    if not _SHAPE.fullmatch(text):
        if "TZ=" in text:
            return "write only the five fields; the time zone belongs into spec.schedule.timeZone"
        return _FIELDS
    try:
        next(CronSim(text, _ANY_DAY))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        return f"the {field} field cannot be used: write lists, rising ranges and steps of values that exist"
    except StopIteration:
        return "this day never comes: write a day that the month has"
    return None


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) - {"localtime", "posixrules", "Factory"}


def is_zone(name: str) -> bool:
    """Tell whether the IANA database knows a time zone by this very name."""
    return name in _zones()


def shortest_gap(text: str) -> int:
    """Return the shortest time between two runs of a day and the next, in seconds, at most a day.

    Days are taken as if all of them matched: a gap over midnight counts even where the next day has no run.
    """
    parsed = CronSim(text, _ANY_DAY)
    minutes = sorted(hour * 60 + minute for hour in parsed.hours for minute in parsed.minutes)
    following = [*minutes[1:], minutes[0] + 24 * 60]
    return min(later - sooner for sooner, later in zip(minutes, following, strict=True)) * 60


def after(text: str, zone: str | None, moment: datetime) -> datetime | None:
    """Return the first run after ``moment``, in UTC; None where none comes within 50 years."""
    return _step(text, zone, moment, reverse=False)


def before(text: str, zone: str | None, moment: datetime) -> datetime | None:
    """Return the last run at or before ``moment``, in UTC."""
    return _step(text, zone, moment, reverse=True)


def _step(text: str, zone: str | None, moment: datetime, *, reverse: bool) -> datetime | None:
    local = moment.astimezone(ZoneInfo(zone) if zone else UTC)
    # cronsim never answers with its starting point, and beside a change of the clock its answer may lie on the wrong
    # side of the moment: there, start hours away and walk up to it.
    margin, hours = timedelta(seconds=1), timedelta(hours=3)
    if (local - hours).utcoffset() != (local + hours).utcoffset():
        margin = hours
    for run in CronSim(text, local + margin if reverse else local - margin, reverse=reverse):
        found = run.astimezone(UTC)
        if found <= moment if reverse else found > moment:
            return found
    return None
