"""Schedule, the hours of the week in which labels have events, and its form on the command line."""

import re
import time
from typing import FrozenSet, Iterable, List, NamedTuple

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FORM = "'22:00-06:00', 'mon-fri 08:00-18:00' or 'sat,sun 00:00-24:00'"
_DAY_MIN = 24 * 60


class Schedule(NamedTuple):
    """Hours that begin on some days of the week, by the device's local time.

    days        the days on which they begin: 0 is Monday
    start       in minutes from midnight
    end         the same, at most 24 * 60; before or at the start: on the next day
    """

    days: FrozenSet[int]
    start: int
    end: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Return whether a minute of a day is within the hours."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        return (weekday in self.days and minute >= self.start) or (
            (weekday - 1) % len(DAYS) in self.days and minute < self.end
        )


def is_time(schedules: Iterable[Schedule], at: float) -> bool:
    """Return whether a time, in seconds since 1970, is within one of the schedules."""
    local = time.localtime(at)
    return any(schedule.holds(local.tm_wday, 60 * local.tm_hour + local.tm_min) for schedule in schedules)


def parse_schedule(text: str) -> Schedule:
    """Return the schedule in a text of the FORM; ValueError if it has another form."""
    words = text.lower().split()
    if len(words) not in (1, 2):
        raise ValueError("{!r} is not a schedule; {} was expected".format(text, FORM))
    hours = words[-1].split("-")
    if len(hours) != 2:
        raise ValueError("{!r} has no hours; {} was expected".format(text, FORM))
    start, end = (_minutes(one, text) for one in hours)
    if start in (_DAY_MIN, end):
        raise ValueError("the hours of {!r} begin when they end; {} was expected".format(text, FORM))
    return Schedule(frozenset(_days(words[0], text) if len(words) == 2 else range(len(DAYS))), start, end)


def _minutes(text: str, whole: str) -> int:
    found = re.match("([0-9]{1,2}):([0-9]{2})$", text)
    minutes = 60 * int(found.group(1)) + int(found.group(2)) if found and int(found.group(2)) < 60 else _DAY_MIN + 1
    if minutes > _DAY_MIN:
        raise ValueError("{!r} in {!r} is not a time; 00:00 to 24:00 was expected".format(text, whole))
    return minutes


def _days(text: str, whole: str) -> List[int]:
    """Return the days in "mon-fri" or "sat,sun"; a range may go over Sunday."""
    found: List[int] = []
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not set(ends) <= set(DAYS):
            raise ValueError("{!r} in {!r} is not a day; {} were expected".format(part, whole, ", ".join(DAYS)))
        first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
        found += [day % len(DAYS) for day in range(first, first + (last - first) % len(DAYS) + 1)]
    return found
