"""Results as a stream delivers them, made without a model."""

from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.results import Result, StreamEvent, StreamResult
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
