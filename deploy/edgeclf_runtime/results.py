"""The classification result of an image or a frame, its origin, events between frames, and the events of labels."""

import json
import os
from typing import TYPE_CHECKING, Dict, List, Mapping, NamedTuple, Optional, Tuple

from .errors import OptionError
from .images.frame import Frame
from .text.redaction import redact

if TYPE_CHECKING:
    import numpy as np

    from .files.schema import JsonObject


UNKNOWN = "unknown"
STAGES = ("preprocess", "inference", "postprocess")
DEVICE_NAME = "EDGECLF_DEVICE_NAME"
USUAL = 0.95  # share of validation images that are nearer than a model's usual distance
_LONGEST_NAME = 100
_FARTHEST = 1e6  # JSON has no number for infinity


class Origin(NamedTuple):
    """The origin of results, shared by all of a run's results.

    bundle      the first 12 digits of the bundle's id; "" for a model outside of a bundle
    source      the camera's or file's name, without passwords
    device      this device's name, or ""
    camera      the camera's name among several of one run, or ""
    """

    bundle: str = ""
    source: str = ""
    device: str = ""
    camera: str = ""

    @property
    def prefix(self) -> str:
        """The beginning of a line for people that is about one of several cameras: its name, or ""."""
        return "{}: ".format(self.camera) if self.camera else ""

    def to_dict(self) -> Dict[str, object]:
        """Return the known fields in JSON types."""
        return {name: value for name, value in self._asdict().items() if value}


NOWHERE = Origin()


def find_origin(bundle_id: str = "", source: object = "", device: Optional[str] = None, camera: str = "") -> Origin:
    """Return the Origin of a bundle's results; OptionError if the device's name is not valid.

    device      its name; None uses EDGECLF_DEVICE_NAME from the environment, if set
    """
    if device is None:
        device = os.environ.get(DEVICE_NAME, "")
        if device and not is_device_name(device):
            raise OptionError(
                "the environment's {} is {:.200}; {} was expected".format(DEVICE_NAME, ascii(device), A_DEVICE_NAME)
            )
    return Origin(bundle_id[:12], redact(str(source)), device, camera)


A_DEVICE_NAME = "a name of 1 to {} printable characters".format(_LONGEST_NAME)


def is_device_name(text: str) -> bool:
    """Return whether a text is a valid device name."""
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable() and bool(text.strip())


class NearImage(NamedTuple):
    """A training image that is among the nearest to a classified one.

    label       its label
    image       its number; the bundle may have it as ``examples/NUMBER.jpg``
    """

    label: str
    image: int


class Result(NamedTuple):
    """One classified image.

    label           the label, or "unknown" if it was rejected
    confidence      the softmax probability of the label or, if rejected, of the candidate, 0 to 1
    top             the most likely labels with their confidences, best first
    timings_ms      milliseconds per stage, see STAGES; in a batch, each image's share
    model, backend  the ones actually used
    confidences     of every label, float64 [labels] in the order of the logits; not in the JSON
    rejected        whether it is unknown, for the ``reason``; tells a rejection from a training label named "unknown"
    candidate       the label that the confidence belongs to: ``label`` itself unless rejected
    reason          "confidence" if that is too low, "distance" if the image is like no training image, "" if not rejected
    label_set       the labels that the image may have, the likeliest first, if the bundle was made with label sets
    distance        how far it is from the training images, about 0 for images like them; None if the model cannot tell
    nearest         the nearest training images, for the reason "distance"
    """

    label: str
    confidence: float
    top: List[Tuple[str, float]]
    timings_ms: Dict[str, float]
    model: str
    backend: str
    confidences: "Optional[np.ndarray]" = None
    rejected: bool = False
    candidate: str = ""
    reason: str = ""
    label_set: Optional[Tuple[str, ...]] = None
    distance: Optional[float] = None
    nearest: Tuple[NearImage, ...] = ()

    def to_dict(self) -> "JsonObject":
        """Return the result in JSON types; reason, distance, label_set and nearest only if there are any."""
        extra: "JsonObject" = {}
        if self.reason:
            extra["reason"] = self.reason
        if self.distance is not None:
            extra["distance"] = round(min(self.distance, _FARTHEST), 4)
        if self.label_set is not None:
            extra["label_set"] = list(self.label_set)
        if self.nearest:
            extra["nearest"] = [one._asdict() for one in self.nearest]
        return {
            "label": self.label,
            "rejected": bool(self.rejected),
            "candidate": self.candidate or self.label,
            "confidence": round(self.confidence, 6),
            **extra,
            "top": [{"label": label, "confidence": round(confidence, 6)} for label, confidence in self.top],
            "timings_ms": {stage: round(value, 3) for stage, value in self.timings_ms.items()},
            "model": self.model,
            "backend": self.backend,
        }

    @property
    def verdict(self) -> str:
        """Label and confidence for people: "cat 97.3 %"; "unknown (cat 62.7 %)" or "unknown (cat 97.3 %, distance 5.1)" if rejected."""
        share = "{} {:.1f} %".format(self.candidate or self.label, self.confidence * 100)
        if self.reason == "distance" and self.distance is not None:
            share += ", distance {:.1f}".format(min(self.distance, _FARTHEST))
        return "{} ({})".format(self.label, share) if self.rejected else share

    def __str__(self) -> str:
        found = self.verdict if self.rejected else "{} {:.3f}".format(self.label, self.confidence)
        others = [pair for pair in self.top if pair[0] != (self.candidate or self.label)][:2]
        rest = "  ".join("{} {:.3f}".format(label, confidence) for label, confidence in others)
        return found + ("  ({})".format(rest) if rest else "")


class Limits(NamedTuple):
    """The limits with which one model's results are compared.

    threshold       a confidence below it gives the label "unknown"
    by_label        the thresholds of labels that have a higher one, by label
    usual_distance  95 % of validation images are nearer; None if it is not known
    most_distance   a distance above it gives the label "unknown"; None: none does
    sets            whether results have a label set
    """

    threshold: float = 0.0
    by_label: Mapping[str, float] = {}
    usual_distance: Optional[float] = None
    most_distance: Optional[float] = None
    sets: bool = False

    @property
    def explains(self) -> bool:
        """True if there may be something to explain: a distance, or a threshold."""
        return self.usual_distance is not None or self.threshold > 0 or bool(self.by_label)

    def explain(self, result: Result) -> str:
        """Return why a result was rejected, for people; the distance of one that was not, "" if it has none."""
        if result.reason == "confidence":
            needed = max(self.threshold, self.by_label.get(result.candidate, 0.0))
            return "confidence {} % is below {} %".format(*_unlike(100 * result.confidence, 100 * needed))
        if result.distance is None:
            return ""
        distance, usual = min(result.distance, _FARTHEST), self.usual_distance
        figures = ("{:.1f}".format(distance),) if usual is None else _unlike(distance, usual)
        text = "distance {}, usual is up to {}".format(*figures) if len(figures) > 1 else "distance " + figures[0]
        return "like no training image: " + text if result.reason == "distance" else text


def _unlike(found: float, limit: float) -> Tuple[str, str]:
    """Return two figures as texts with one decimal, or more if they would look the same; the limit without zeros at the end."""
    for digits in range(1, 5):
        first, second = "{:.{}f}".format(found, digits), "{:.{}f}".format(limit, digits)
        if first != second:
            break
    return first, second.rstrip("0").rstrip(".")


class StreamEvent(NamedTuple):
    """A change in a stream between two frames.

    state       "live", or "lost" while there is no camera; "degraded" when a worse model or backend has taken over,
                "restored" when the better one is back; "changed" while the camera's images or the results differ from
                those of training, "normal" when they no longer do
    reason      what happened, in one sentence
    at          seconds since 1970
    origin      the stream's Origin
    verdicts    for "changed", in what: names from ``streaming/health/symptoms.py``
    """

    state: str
    reason: str
    at: float
    origin: Origin = NOWHERE
    verdicts: Tuple[str, ...] = ()

    def to_dict(self) -> Dict[str, object]:
        """Return the line that ``run --json`` writes."""
        line: Dict[str, object] = {"state": self.state, "reason": self.reason, "at": round(self.at, 6)}
        if self.verdicts:
            line["verdicts"] = list(self.verdicts)
        return dict(line, **self.origin.to_dict())

    def to_json(self) -> str:
        """Return :meth:`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        return "{:>6}  {}{}: {}".format("", self.origin.prefix, self.state, self.reason)


class StreamResult(NamedTuple):
    """One frame and its result.

    age_ms      time from the frame's capture to its label
    dropped     number of frames so far that were captured and not classified
    origin      the stream's Origin, the same object in each of its results
    """

    frame: Frame
    result: Result
    age_ms: float
    dropped: int = 0
    origin: Origin = NOWHERE

    def to_dict(self) -> "JsonObject":
        """Return the line that ``run --json`` writes."""
        fields = self.result.to_dict()
        timings_ms = dict({"capture": round(self.frame.capture_ms, 3)}, **fields.pop("timings_ms"))
        line: "JsonObject" = {"frame": self.frame.number, "state": "live"}
        if self.frame.name:
            line["name"] = self.frame.name
        if self.frame.position_s is not None:
            line["position_s"] = round(self.frame.position_s, 6)
        line.update(fields, **self.origin.to_dict())
        line.update(captured_at=round(self.frame.captured_at, 6), age_ms=round(self.age_ms, 3), timings_ms=timings_ms)
        return line

    def to_json(self) -> str:
        """Return :meth:`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        return "{:>6}  {}{}  age {:.1f} ms  {}".format(
            self.frame.number, self.origin.prefix, self.result, self.age_ms, self.frame.name
        ).rstrip()


ENDED_LEFT, ENDED_LOST, ENDED_STOPPED, ENDED_SCHEDULE = "left", "lost", "stopped", "schedule"
ENDED = (ENDED_LEFT, ENDED_LOST, ENDED_STOPPED, ENDED_SCHEDULE)
_ENDS = {
    ENDED_LOST: ", because the camera was lost",
    ENDED_STOPPED: ", because the run ended",
    ENDED_SCHEDULE: ", because the hours of --schedule ended",
}


class EventEnd(NamedTuple):
    """The end of a LabelEvent.

    reason      "left": another label came, or the confidence fell; "lost": the camera was lost; "stopped": the run ended;
                "schedule": the hours in which labels have events ended
    at          seconds since 1970: the start of the event and its duration, so that a clock set in between changes neither
    duration_s  by the camera's or video's own time
    """

    reason: str
    at: float
    duration_s: float


class LabelEvent(NamedTuple):
    """The stay of one label in front of the camera: once when it has come, with what is known then, and once when it has gone.

    id              the same in both; another one for each stay
    started_at      capture time of its first frame, in seconds since 1970
    start_frame     number of that frame
    position_s      its position in a video file; None if frames have no times of their own
    confidence      the highest so far; 1 for rejected images
    best            the Frame with that confidence; without its image unless LabelEvents keeps images
    frames          number of frames that show the label
    end             its EventEnd; None if it has only begun
    """

    id: str
    label: str
    started_at: float
    start_frame: int
    position_s: Optional[float]
    confidence: float
    best: Frame
    frames: int
    origin: Origin = NOWHERE
    end: Optional[EventEnd] = None

    def to_dict(self) -> "JsonObject":
        """Return the line that ``run --json`` writes."""
        line: "JsonObject" = {"event": "end" if self.end else "start", "id": self.id, "label": self.label}
        line.update(started_at=round(self.started_at, 6), start_frame=self.start_frame)
        if self.position_s is not None:
            line["position_s"] = round(self.position_s, 6)
        if self.end is not None:
            end = self.end
            line.update(ended_at=round(end.at, 6), duration_s=round(end.duration_s, 3), reason=end.reason)
        line.update(frames=self.frames, confidence=round(self.confidence, 6), best_frame=self.best.number)
        line["best_at"] = round(self.best.captured_at, 6)
        if self.best.name:
            line["best_name"] = self.best.name
        return dict(line, **self.origin.to_dict())

    def to_json(self) -> str:
        """Return :meth:`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        share = "{:.1f} %".format(self.confidence * 100)
        if self.end is None:
            return "{:>6}  {}start: {} {}".format(self.start_frame, self.origin.prefix, self.label, share)
        return "{:>6}  {}end: {} after {:.1f} s, {} frame{}, at most {} in frame {}{}".format(
            self.start_frame,
            self.origin.prefix,
            self.label,
            self.end.duration_s,
            self.frames,
            "" if self.frames == 1 else "s",
            share,
            self.best.number,
            _ENDS.get(self.end.reason, ""),
        )
