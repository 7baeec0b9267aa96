"""Results as a stream delivers them, made without a model."""

from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.results import EventEnd, LabelEvent, Result, StreamEvent, StreamResult
from tests.support.pictures import noise

START = 1_700_000_000.0
LOST = StreamEvent("lost", "the camera is gone", START)
TIMINGS_MS = {"preprocess": 2.0, "inference": 30.0, "postprocess": 0.5}


def result(number=0, label="cat", confidence=0.9, image=None, seconds=None, name="", candidate=None):
    """The result of one frame, captured ``seconds`` (a tenth of its number) after START; rejected with a ``candidate``."""
    seconds = number / 10 if seconds is None else seconds
    image = noise(64, 48) if image is None else image
    frame = Frame(image, number, START + seconds, 5000.0 + seconds, 4.0, name)
    fields = dict.fromkeys(Result._fields)
    fields.update(label=label, confidence=confidence, top=[(label, confidence), ("dog", 1 - confidence)])
    fields.update(rejected=candidate is not None, candidate=candidate or label)
    fields.update(timings_ms=TIMINGS_MS, model="int8-cpu", backend="onnxruntime", nearest=())
    return StreamResult(frame, Result(**fields), age_ms=41.5)


def came(number=0, label="cat", confidence=0.9, image=None, id="1700000000.000-1"):
    """The event of a label that has come with this frame."""
    frame = result(number).frame._replace(image=image)
    return LabelEvent(id, label, frame.captured_at, number, None, confidence, frame, 16)


def went(number=0, duration_s=2.5, reason="left", **options):
    """The event of a label that came with this frame and has gone."""
    begun = came(number, **options)
    return begun._replace(frames=75, end=EventEnd(reason, begun.started_at + duration_s, duration_s))
