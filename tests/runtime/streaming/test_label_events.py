"""A label's stay is one event: reported in time, once, and not at all for noise."""

import numpy as np
import pytest

from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.results import Origin, Result, StreamResult
from edgeclf_runtime.streaming.event_rules import parse_rule
from edgeclf_runtime.streaming.label_events import LabelEvents

LABELS = ["defective", "functional"]
RATE, HOLD_S = 30.0, 0.5
WALL_S = 1_700_000_000.0
PICTURE = np.zeros((4, 4, 3), np.uint8)


def seen(defective, number, rejected="", captured_at=None, image=PICTURE):
    """A frame's result with this confidence of "defective"."""
    confidences = np.array([defective, 1 - defective])
    index = int(confidences.argmax())
    label, confidence = LABELS[index], float(confidences[index])
    fields = dict.fromkeys(Result._fields)
    fields.update(
        label="unknown" if rejected else label, candidate=label, confidence=confidence, confidences=confidences
    )
    fields.update(rejected=bool(rejected), reason=rejected, top=[], timings_ms={}, model="m", backend="b", nearest=())
    captured_at = WALL_S + number / RATE if captured_at is None else captured_at
    return StreamResult(Frame(image, number, captured_at, 0.0, 0.0, ""), Result(**fields), 1.0, 0, Origin("b", "s"))


def replay(confidences, *rules, rate=RATE, start=0):
    """The events of a stream of these confidences of "defective", each with the number of the frame that decided it."""
    events = LabelEvents([parse_rule(rule) for rule in rules or ("defective: min=0.8",)], LABELS)
    decided = []
    for number, confidence in enumerate(confidences, start):
        item = confidence if isinstance(confidence, StreamResult) else seen(confidence, number)
        decided += [(number, event) for event in events.take(item, number / rate)]
    return decided, events


def kinds(decided):
    return [(event.label, event.end.reason if event.end else "start") for _, event in decided]


def test_a_stay_is_reported_when_it_has_lasted_for_the_hold_time_and_when_it_has_been_over_for_it():
    decided, _ = replay([0.1] * 30 + [0.9] * 90 + [0.1] * 60)
    assert kinds(decided) == [("defective", "start"), ("defective", "left")]
    (came, start), (went, end) = decided
    assert came - 30 <= HOLD_S * RATE + 1
    assert went - 120 <= HOLD_S * RATE + 1
    assert start.id == end.id
    assert (start.start_frame, start.frames, end.frames) == (30, 16, 90)
    assert end.end.duration_s == pytest.approx(3.0)
    assert end.end.at == pytest.approx(WALL_S + 4.0)


@pytest.mark.parametrize("rate", [1, 7, 29.97, 60])
@pytest.mark.parametrize("hold", [0, 0.2, 2])
def test_each_change_is_reported_within_the_hold_time_and_one_frame_at_any_rate(rate, hold):
    count = int(rate * (hold + 2)) + 3
    decided, _ = replay([0.1] * 5 + [0.9] * count + [0.1] * count, f"defective: hold={hold}", rate=rate)
    assert kinds(decided) == [("defective", "start"), ("defective", "left")]
    for (number, _), changed in zip(decided, (5, 5 + count)):
        assert (number - changed) / rate <= hold + 1 / rate


def flicker(seed, minutes=10):
    """Noise as a camera gives it: single frames and bursts shorter than the hold time, and confidences that hover at the limit."""
    chance = np.random.RandomState(seed)
    frames = int(minutes * 60 * RATE)
    found = np.clip(0.2 + 0.1 * chance.standard_normal(frames), 0.01, 0.99)
    found[chance.rand(frames) < 0.05] = 0.97
    longest = int(HOLD_S * RATE) - 1
    number = 0
    while number < frames:
        length = chance.randint(1, longest + 1)
        found[number : number + length] = chance.choice([0.81, 0.9, 0.99])
        found[number + length : number + length + 2] = 0.1
        number += length + chance.randint(3, 40)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_ten_minutes_of_flicker_give_no_event(seed):
    noise = flicker(seed)
    assert len(noise) == 18000
    assert np.count_nonzero(np.diff(noise > 0.8)) > 1500
    decided, events = replay(noise)
    assert (decided, events.end("stopped")) == ([], [])


@pytest.mark.parametrize("seed", range(3))
def test_ten_minutes_of_flicker_do_not_divide_a_stay(seed):
    """The same noise upside down: a label that is there, and is not seen for a moment again and again."""
    decided, events = replay([0.9] * 30 + list(1 - flicker(seed)))
    assert kinds(decided) == [("defective", "start")]
    [end] = events.end("stopped")
    assert end.end.reason == "stopped"
    assert end.end.duration_s > 595


@pytest.mark.parametrize("seed", range(3))
def test_confidences_that_hover_at_the_limit_give_one_event(seed):
    noise = np.clip(0.8 + 0.05 * np.random.RandomState(seed).standard_normal(18000), 0, 1)
    assert np.count_nonzero(np.diff(noise > 0.8)) > 5000
    decided, _ = replay(noise, "defective: min=0.8, leave=0.5")
    assert kinds(decided) == [("defective", "start")]


def test_between_the_limits_a_label_neither_comes_nor_goes():
    rule = "defective: min=0.8, leave=0.6"
    assert replay([0.7] * 100, rule)[0] == []
    assert kinds(replay([0.85] * 20 + [0.65] * 100, rule)[0]) == [("defective", "start")]
    assert kinds(replay([0.85] * 20 + [0.55] * 100, rule)[0]) == [("defective", "start"), ("defective", "left")]


def test_the_best_frame_and_the_peak_are_of_the_whole_stay():
    confidences = [0.9] * 60
    confidences[3], confidences[40] = 0.95, 0.99
    decided, _ = replay(confidences + [0.1] * 30)
    (_, start), (_, end) = decided
    assert (start.confidence, start.best.number) == (0.95, 3)
    assert (end.confidence, end.best.number) == (0.99, 40)
    assert end.best.captured_at == pytest.approx(WALL_S + 40 / RATE)


def test_every_label_has_its_own_events_and_one_ends_where_the_next_begins():
    decided, _ = replay([0.9] * 40 + [0.1] * 40, "*: hold=0.5")
    assert kinds(decided) == [("defective", "start"), ("defective", "left"), ("functional", "start")]
    assert decided[1][1].end.at == pytest.approx(decided[2][1].started_at)
    assert len({event.id for _, event in decided}) == 2


def test_a_clock_that_jumps_changes_nothing():
    """The network sets the board's time from 1970 to today, and back, during an event."""
    steady = [0.1] * 10 + [0.9] * 60 + [0.1] * 30
    jumping = [seen(value, number, captured_at=number / RATE) for number, value in enumerate(steady)]
    for number in range(20, 60):
        jumping[number] = seen(steady[number], number, captured_at=WALL_S + number / RATE)
    one, other = replay(steady)[0], replay(jumping)[0]
    assert [number for number, _ in one] == [number for number, _ in other]
    assert other[1][1].end.duration_s == one[1][1].end.duration_s == pytest.approx(2.0)
    assert other[1][1].end.at == pytest.approx(10 / RATE + 2)


def test_a_position_that_goes_back_does_not_end_a_hold_time_early():
    events = LabelEvents([parse_rule("defective")], LABELS)
    times = [0, 0.2, 0.1, 0.3, 0.2, 0.4, 0.45]
    found = [events.take(seen(0.9, number), at) for number, at in enumerate(times)]
    assert [len(one) for one in found] == [0, 0, 0, 0, 0, 1, 0]


def test_a_lost_camera_ends_an_event_with_a_reason_and_the_next_begins_anew():
    _, events = replay([0.9] * 30)
    [end] = events.end("lost")
    assert (end.end.reason, end.end.duration_s) == ("lost", pytest.approx(29 / RATE))
    assert events.end("stopped") == []
    found = [events.take(seen(0.9, 1000 + number), 500 + number / RATE) for number in range(17)]
    assert [len(one) for one in found] == [0] * 15 + [1, 0]
    assert found[15][0].id != end.id


def test_a_label_that_is_not_reported_yet_is_forgotten_with_its_camera():
    decided, events = replay([0.9] * 5)
    assert (decided, events.end("lost")) == ([], [])


def test_an_image_like_no_training_image_shows_no_label_but_is_unknown():
    foreign = [seen(0.99, number, "distance") for number in range(60)]
    assert kinds(replay(foreign, "*", "unknown: hold=1")[0]) == [("unknown", "start")]
    decided, _ = replay([0.9] * 30 + foreign, "*", start=0)
    assert kinds(decided) == [("defective", "start"), ("defective", "left")]


def test_a_low_confidence_begins_nothing_and_ends_nothing_above_the_lower_limit():
    unsure = [seen(0.7, number, "confidence") for number in range(60)]
    assert replay(unsure, "defective: min=0.5")[0] == []
    assert kinds(replay([0.9] * 30 + unsure, "defective: min=0.5")[0]) == [("defective", "start")]


def test_labels_without_a_rule_have_no_events():
    assert replay([0.1] * 100, "defective")[0] == []


def test_an_image_is_kept_only_if_it_is_asked_for_and_is_a_copy():
    picture = PICTURE.copy()
    for images in (False, True):
        events = LabelEvents([parse_rule("defective: hold=0")], LABELS, images)
        [event] = events.take(seen(0.9, 0, image=picture), 0.0)
        assert (event.best.image is not None) == images
    picture[:] = 7
    assert not event.best.image.any()


def test_a_line_says_what_a_machine_needs_and_a_text_what_a_person_does():
    decided, _ = replay([0.9] * 40 + [0.1] * 30)
    (_, start), (_, end) = decided
    begun = start.to_dict()
    assert {key: begun[key] for key in ("event", "label", "start_frame", "frames", "best_frame", "source")} == {
        "event": "start",
        "label": "defective",
        "start_frame": 0,
        "frames": 16,
        "best_frame": 0,
        "source": "s",
    }
    ended = end.to_dict()
    assert (ended["event"], ended["reason"], ended["duration_s"], ended["frames"]) == ("end", "left", 1.333, 40)
    assert set(ended) - set(begun) == {"ended_at", "duration_s", "reason"}
    assert str(start) == "     0  start: defective 90.0 %"
    assert str(end) == "     0  end: defective after 1.3 s, 40 frames, at most 90.0 % in frame 0"
