"""Health, which measures what a stream's model sees, and watches it with a Monitor."""

import collections
import logging
import threading
import time
from typing import TYPE_CHECKING, Deque, List, Mapping, Optional, Sequence, Tuple

from ...errors import BundleError
from ...files.schema import SchemaError, parse_json
from .baseline import FILE, Baseline, parse_baseline
from .learning import Learner
from .measures import Measures, measure
from .monitor import Change, Monitor
from .state_file import read_state, state_path, write_state
from .symptoms import ORDER

if TYPE_CHECKING:
    import numpy as np

    from ...bundle.open_bundle import Bundle
    from ...results import Result

_log = logging.getLogger(__name__)
BASELINES = ("training", "learn", "relearn")
EVERY_S = 0.2  # five images a second
_MOST_SHARE = 0.01  # of the time that measuring may take
_SAVE_S = 300.0


def read_baseline(bundle: "Bundle") -> Optional[Baseline]:
    """Return a bundle's Baseline, or None if it has none; BundleError if it is not valid."""
    if FILE not in bundle.files:
        return None
    try:
        return parse_baseline(parse_json(bundle.file(FILE).read()), len(bundle.labels))
    except SchemaError as error:
        raise BundleError("{}: {}: {}; make the bundle again".format(bundle.path, FILE, error))


class Health:
    """Watches one stream.  see() may be called by the threads that prepare images, the rest by one thread.

    baseline    the training images' Baseline
    labels      the names of the labels, in the order of the logits
    color       the channel order of the model's input
    path        of the state, or None to keep none
    learn       one of BASELINES: compare with training images; or with the first ten minutes of this camera, which are learned once
                (learn) or again (relearn)
    every       measure every so many images instead of five a second: for files, which are read as fast as possible
    results     whether confidences and labels are watched
    distances   the usual distance from the training images of each model that gives one, by the model's name
    """

    def __init__(
        self,
        baseline: Baseline,
        labels: Sequence[str],
        color: str = "RGB",
        path: Optional[str] = None,
        learn: str = "training",
        every: Optional[int] = None,
        results: bool = True,
        distances: Optional[Mapping[str, float]] = None,
    ) -> None:
        self._distances = dict(distances or {})
        self._color, self._path, self._every = color, path, every
        state, learned = read_state(path, len(labels)) if path else ({}, None)
        self._learned = learned if learn == "learn" else None
        self._learner = Learner(baseline) if learn != "training" and self._learned is None else None
        if not results:
            baseline = baseline._replace(labels=None, low=None)
        if self._learned is not None:
            baseline = baseline._replace(limits=self._learned.limits, layout=self._learned.layout)
        self.monitor = self._monitor(baseline, labels)
        if self._learner is None:
            self.monitor.restore(state)
        else:
            _log.warning("health: learning what is usual here; nothing is reported for about ten minutes")
        self._seen: "Deque[Measures]" = collections.deque(maxlen=16)
        self._due, self._count = 0.0, 0
        self._lock = threading.Lock()
        self._save_due = time.monotonic() + _SAVE_S

    def _monitor(self, baseline: Baseline, labels: Sequence[str]) -> Monitor:
        return Monitor(baseline, list(labels), bool(self._distances))

    def see(self, batch: "np.ndarray") -> None:
        """Measure the model's input, float32 [1, height, width, 3], if it is time to."""
        with self._lock:
            now = time.monotonic()
            self._count += 1
            if (self._count - 1) % self._every if self._every else now < self._due:
                return
            start = time.perf_counter()
            self._seen.append(measure(batch[0], self._color))
            spent_s = time.perf_counter() - start
            self._due = now + max(EVERY_S, spent_s / _MOST_SHARE)

    def take(self, result: "Result") -> List[Change]:
        """Take a result, as the model gave it; returns the Changes since the last one.

        The baseline is made of single images: an average of several, as of a Smoother, differs from it.
        """
        changes: List[Change] = []
        while self._seen:
            changes += self._add(self._seen.popleft())
        if self._learner is None:
            self._add_result(result)
        for change in changes:
            _log.warning("health: %s", change)
        if changes or time.monotonic() >= self._save_due:
            self._save()
        return changes

    @property
    def active(self) -> Tuple[str, ...]:
        """The verdicts that hold now, the most important first."""
        return tuple(name for name in ORDER if name in self.monitor.active)

    @property
    def reason(self) -> str:
        """The verdicts that hold now, each with its figure, in one sentence."""
        texts = [self.monitor.text(name) for name in self.active]
        return "; ".join(texts) or "images and results are as in training again"

    def _add(self, measures: Measures) -> List[Change]:
        if self._learner is None:
            return self.monitor.add_image(measures)
        learned = self._learner.add(measures)
        if learned is not None:
            self._learned, self._learner = learned, None
            baseline = self.monitor.baseline._replace(limits=learned.limits, layout=learned.layout)
            self.monitor = self._monitor(baseline, self.monitor.labels)
            _log.warning("health: learned what is usual here")
            self._save()
        return []

    def _add_result(self, result: "Result") -> None:
        labels, label = self.monitor.labels, result.candidate or result.label
        if label in labels:
            # After a fallback, results are those of another model.
            usual = self._distances.get(result.model)
            self.monitor.add_result(labels.index(label), result.confidence, result.distance, usual)

    def _save(self) -> None:
        self._save_due = time.monotonic() + _SAVE_S
        if self._path and self._learner is None:
            write_state(self._path, self.monitor, self._learned)

    def close(self) -> None:
        """Write the state."""
        self._save()


def open_health(
    bundle: "Bundle", source: str, learn: str = "training", every: Optional[int] = None, results: bool = True
) -> Optional[Health]:
    """Return the Health for a bundle and a source, or None if the bundle has no baseline; arguments as for Health.

    Distances are watched also without ``results``: they do not depend on which labels are allowed.  They are not if there were too few
    validation images for the lowest confidences: those would not give a usual distance either.
    """
    baseline = read_baseline(bundle)
    if baseline is None:
        return None
    path = state_path(bundle.id, source)
    facts = {model.name: model.known_images for model in bundle.models if baseline.low is not None}
    distances = {name: one.usual_distance for name, one in facts.items() if one is not None}
    return Health(baseline, bundle.labels, bundle.preprocessing.color, path, learn, every, results, distances)
