"""LabelEvents, which turns the results of a stream into events: a label came, and it went.

For each label it is a threshold with hysteresis, and a time for which a change must last: a label comes when it is the result's
with at least ``minimum``, and goes when its own confidence is below ``leave``; either must hold for ``hold_s``.
"""

from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence

from ..results import ENDED_LEFT, ENDED_SCHEDULE, UNKNOWN, EventEnd, LabelEvent, Origin, StreamResult
from .event_rules import EventRule, rules_by_label
from .schedule import Schedule, is_time

if TYPE_CHECKING:
    from ..images.frame import Frame


class _Moment(NamedTuple):
    """The frame of a change, without its image, and its time on the clock of LabelEvents."""

    frame: "Frame"
    clock_s: float


class _Stay:
    """A label that is there now, or may be."""

    def __init__(self, rule: EventRule, start: _Moment) -> None:
        self.rule, self.start, self.latest = rule, start, start
        self.id = ""  # once it was reported
        self.gone: Optional[_Moment] = None  # the first frame without the label, if it has not come back since
        self.frames, self.peak = 0, -1.0
        self.best = start.frame

    def take(self, moment: _Moment, confidence: float, image: "Optional[Frame]") -> None:
        """Count a frame that shows the label."""
        self.gone, self.latest = None, moment
        self.frames += 1
        if confidence > self.peak:
            self.peak, self.best = confidence, image or moment.frame

    def event(self, origin: Origin, end: Optional[EventEnd] = None) -> LabelEvent:
        start = self.start.frame
        about = (self.id, self.rule.label, start.captured_at, start.number, start.position_s)
        return LabelEvent(*about, self.peak, self.best, self.frames, origin, end)

    def end(self, origin: Origin, reason: str) -> LabelEvent:
        """Return the event of its end: at the first frame without the label, or else at the last one with it."""
        duration_s = (self.gone or self.latest).clock_s - self.start.clock_s
        return self.event(origin, EventEnd(reason, self.start.frame.captured_at + duration_s, duration_s))


class LabelEvents:
    """The events of one stream's labels.

    rules       EventRules; labels without one have no events
    labels      the labels, in the order of the logits
    images      keep a copy of each event's best image
    schedules   Schedules within which labels have events, by the frames' capture times; none: always

    Times are those that are given with the results: the camera's or the video's own.  The system's clock decides nothing, so that
    it may jump.  Raises OptionError for a rule of an unknown label, or two for one label.
    """

    def __init__(
        self,
        rules: Sequence[EventRule],
        labels: Sequence[str],
        images: bool = False,
        schedules: Sequence[Schedule] = (),
    ) -> None:
        self._rules, self._schedules = rules_by_label(rules, labels), schedules
        self._indices = {label: index for index, label in enumerate(labels)}
        self._images = images
        self._stays: Dict[str, _Stay] = {}
        self._origin = Origin()
        self._clock_s = 0.0
        self._at: Optional[float] = None
        self._count = 0

    def take(self, item: StreamResult, at: float) -> List[LabelEvent]:
        """Take the next result; return the events that it decides, ends before starts.

        at      the frame's time in seconds: of its capture, or its position in a video; one before the last counts as the same
        """
        if self._schedules and not is_time(self._schedules, item.frame.captured_at):
            return self.end(ENDED_SCHEDULE)
        self._clock_s += max(at - self._at, 0.0) if self._at is not None else 0.0
        self._at, self._origin = at, item.origin
        moment = _Moment(item.frame._replace(image=None), self._clock_s)  # type: ignore[arg-type]
        kept = item.frame._replace(image=item.frame.image.copy()) if self._images and self._improves(item) else None
        ends: List[LabelEvent] = []
        for label, stay in list(self._stays.items()):
            confidence = self._confidence(item, label)
            if confidence >= stay.rule.leave:
                stay.take(moment, confidence, kept)
            elif self._is_over(stay, moment):
                del self._stays[label]
                if stay.id:
                    ends.append(stay.end(item.origin, ENDED_LEFT))
        self._begin(item, moment, kept)
        return ends + [self._start(stay) for stay in self._stays.values() if self._is_due(stay)]

    def _is_over(self, stay: _Stay, moment: _Moment) -> bool:
        """Return whether a label that is not in the frame has gone: at once if its coming was not reported yet."""
        stay.gone = stay.gone or moment
        return not stay.id or moment.clock_s - stay.gone.clock_s >= stay.rule.hold_s

    def _is_due(self, stay: _Stay) -> bool:
        return not stay.id and self._clock_s - stay.start.clock_s >= stay.rule.hold_s

    def _begin(self, item: StreamResult, moment: _Moment, kept: "Optional[Frame]") -> None:
        """Begin the stay of the result's label, if it has none and its confidence is high enough."""
        rule = self._new_rule(item)
        if rule is not None:
            self._stays[rule.label] = stay = _Stay(rule, moment)
            stay.take(moment, self._confidence(item, rule.label), kept)

    def _new_rule(self, item: StreamResult) -> Optional[EventRule]:
        """Return the rule by which a result begins the stay of its label, or None."""
        label = item.result.label
        rule = self._rules.get(label)
        if rule is None or label in self._stays or (item.result.rejected and label in self._indices):
            return None
        return rule if self._confidence(item, label) >= rule.minimum else None

    def _start(self, stay: _Stay) -> LabelEvent:
        self._count += 1
        stay.id = "{:.3f}-{}".format(stay.start.frame.captured_at, self._count)
        return stay.event(self._origin)

    def _confidence(self, item: StreamResult, label: str) -> float:
        """Return the confidence of a label in a result; 0 for what a rejection makes doubtful, 1 for "unknown" if it is rejected."""
        result = item.result
        if label == UNKNOWN and UNKNOWN not in self._indices:
            return float(result.rejected)
        if result.reason == "distance":  # then confidences say nothing
            return 0.0
        if label == (result.candidate or result.label):
            return result.confidence
        if result.confidences is not None:
            return float(result.confidences[self._indices[label]])
        return dict(result.top).get(label, 0.0)

    def _improves(self, item: StreamResult) -> bool:
        """Return whether the frame is the best so far of a stay, or begins one: its image is copied only then."""
        better = any(self._confidence(item, label) > stay.peak for label, stay in self._stays.items())
        return better or self._new_rule(item) is not None

    def end(self, reason: str) -> List[LabelEvent]:
        """End all events that are under way, for one of ENDED; the next result starts over."""
        stays, self._stays, self._at = self._stays, {}, None
        return [stay.end(self._origin, reason) for stay in stays.values() if stay.id]
