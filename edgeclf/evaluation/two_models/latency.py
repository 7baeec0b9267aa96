"""Times two models in turns, so that only one of them has running threads at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...display.progress import progress
from ...graph.host_form import HostRunner
from ..open_model import OpenModel, open_model

ROUNDS = 3
TIMED_IMAGES = 20
_WARM_UP = 3


def time_models(models: Sequence[tuple[str | Path, OpenModel]], photos: Sequence[np.ndarray]) -> list[float | None]:
    """Return each model's median time from a decoded image to its label, in milliseconds.

    None for a file of another device, which this one only imitates.  Models take turns in ROUNDS rounds, so that a machine
    whose speed drifts favors none, and each is opened for its turn only, since idle threads of another would disturb it.
    photos: uint8 [height, width, 3] in BGR order.
    """
    samples: list[list[float]] = [[] for _ in models]
    timed = [_is_of_this_machine(opened) for _, opened in models]
    with progress("timing", ROUNDS * sum(timed)) as advance:
        for _ in range(ROUNDS):
            for index, (path, opened) in enumerate(models):
                if timed[index]:
                    with _again(path, opened) as alone:
                        for number in range(-_WARM_UP, len(photos)):
                            result = alone.classifier.classify(photos[number % len(photos)])
                            if number >= 0:
                                samples[index].append(sum(result.timings_ms.values()))
                    advance()
    return [round(float(np.median(values)), 3) if values else None for values in samples]


def _is_of_this_machine(opened: OpenModel) -> bool:
    runner = opened.classifier.runner
    return not (isinstance(runner, HostRunner) and runner.imitates)


def _again(path: str | Path, opened: OpenModel) -> OpenModel:
    """Open a model again, for one inference at a time with all threads."""
    if opened.file is None:
        return open_model(path, "torch")
    if opened.run is None and Path(path).is_dir():
        return open_model(path, opened.name)
    return open_model(opened.file)
