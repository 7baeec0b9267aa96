"""The hours in which labels have events."""

import time

import pytest

from edgeclf_runtime.streaming.event_rules import parse_rule
from edgeclf_runtime.streaming.label_events import LabelEvents
from edgeclf_runtime.streaming.schedule import is_time, parse_schedule
from tests.runtime.streaming.test_label_events import LABELS, seen

MONDAY = (2026, 11, 30)


@pytest.fixture(autouse=True)
def zone(monkeypatch):
    """A zone with summer time."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(day, hour, minute=0, date=MONDAY):
    """Seconds since 1970 of a local time, ``day`` days after a Monday."""
    year, month, first = date
    return time.mktime((year, month, first + day, hour, minute, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("08:00-18:00", [(0, 8), (6, 17, 59)], [(0, 7, 59), (3, 18)]),
        ("mon-fri 08:00-18:00", [(0, 8), (4, 12)], [(5, 12), (6, 12)]),
        ("sat,sun 00:00-24:00", [(5, 0), (6, 23, 59)], [(4, 23, 59), (7, 0)]),
        ("fri 22:00-06:00", [(4, 22), (5, 5, 59)], [(4, 5), (5, 6), (5, 22)]),
        ("sun-mon 23:00-01:00", [(6, 23), (7, 0, 59), (7, 23), (1, 0)], [(0, 2), (1, 23), (2, 0)]),
        ("SAT-Mon 8:00-9:00", [(5, 8), (6, 8), (7, 8)], [(1, 8), (4, 8)]),
    ],
)
def test_hours_are_local_and_belong_to_the_day_on_which_they_begin(text, inside, outside):
    schedule = [parse_schedule(text)]
    assert [moment for moment in inside if not is_time(schedule, at(*moment))] == []
    assert [moment for moment in outside if is_time(schedule, at(*moment))] == []


def test_hours_are_those_of_the_clock_on_the_wall_in_summer_too():
    schedule = [parse_schedule("08:00-09:00")]
    assert is_time(schedule, at(0, 8, date=(2026, 7, 6)))
    assert not is_time(schedule, at(0, 9, date=(2026, 7, 6)))


def test_of_several_schedules_one_is_enough():
    schedules = [parse_schedule("08:00-09:00"), parse_schedule("20:00-21:00")]
    assert [is_time(schedules, at(0, hour)) for hour in (7, 8, 9, 20, 21)] == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a schedule"),
        ("08:00", "has no hours"),
        ("8-18", "'8' in '8-18' is not a time"),
        ("08:60-09:00", "'08:60' .* is not a time"),
        ("08:00-25:00", "'25:00' .* is not a time"),
        ("08:00-08:00", "begin when they end"),
        ("24:00-06:00", "begin when they end"),
        ("monday 08:00-09:00", "'monday' .* is not a day"),
        ("mon-wed-fri 08:00-09:00", "is not a day"),
        ("mon 08:00-09:00 utc", "is not a schedule"),
    ],
)
def test_another_form_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_schedule(text)


def test_an_event_ends_with_its_hours_and_begins_with_them():
    events = LabelEvents([parse_rule("defective: hold=0")], LABELS, schedules=[parse_schedule("08:00-18:00")])
    found = []
    for number, moment in enumerate((at(0, 7, 59), at(0, 8), at(0, 17, 59), at(0, 18), at(0, 18, 1), at(1, 8))):
        for event in events.take(seen(0.9, number, captured_at=moment), float(moment)):
            found.append((number, event.end.reason if event.end else "start"))
    assert found == [(1, "start"), (3, "schedule"), (5, "start")]
