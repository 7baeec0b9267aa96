"""Finds the fastest form of a Q/DQ file that loses no more accuracy than is accepted, by timing each on this machine."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...data.temporary import temporary_folder
from ...display.progress import say
from ...errors import BackendError
from ...graph.inference import time_files
from ...graph.int8.forms import FORMS, Form, forms_of
from ...graph.onnx_file import graph_sha256, save_model
from ...targets import FLAVORS, TARGETS
from ..candidate import Candidate
from ..report import FormTrial

if TYPE_CHECKING:
    import onnx

_GAIN = 0.03
"""A form must save this share of the time: less is noise, and another form costs accuracy."""
_ROUNDS = 6


def can_time(name: str) -> bool:
    """Return whether a flavor is for this machine's processor, and a backend that it is for is installed."""
    flavor = FLAVORS[name]
    here = any(platform.machine() in target.machines and name in target.models for target in TARGETS.values())
    # On an Arm machine, int8-arm is computed in another form than on the device.
    return here and flavor.activations == "QUInt8" and any(find_spec(backend) for backend in flavor.backends)


def fastest_form(
    name: str,
    usual: Candidate,
    write: Callable[[Form], onnx.ModelProto],
    evaluate: Callable[[onnx.ModelProto, Form], Candidate],
    accepted: Callable[[Candidate], bool],
    batch: np.ndarray,
) -> tuple[Candidate, tuple[FormTrial, ...]]:
    """Return the fastest accepted form of a file, and every form's time; the usual one if none is faster or accepted.

    usual: the file in its usual form.  write: makes another form.  evaluate: compares it with FP32.  accepted: whether its
    accuracy allows it.  batch: float32 [1, height, width, 3].
    """
    first = FORMS[usual.findings.form]
    others = [form for form in forms_of(usual.model.graph) if form != first]
    models = _different({first: usual.model, **{form: write(form) for form in others}})
    if len(models) < 2:
        return usual, ()
    say(f"timing {len(models)} forms of {name}")
    try:
        times = _times(name, models, batch)
    except BackendError as error:
        say(f"the forms of {name} are not timed: {error}")
        return usual, ()
    best, found = usual, {first.name: usual}
    for form in sorted(models, key=lambda form: times[form.name]):
        share = times[form.name] / times[first.name]
        if share > 1 - _GAIN:
            break
        found[form.name] = evaluate(models[form], form)
        if accepted(found[form.name]):
            best = found[form.name]
            say(f"{name}: {form.name} takes {share:.0%} of the time of {first.name}, and is kept")
            break
    trials = [_trial(form, model, times, found.get(form.name)) for form, model in models.items()]
    trials = [replace(trial, kept=trial.form == best.findings.form) for trial in trials]
    return best, tuple(sorted(trials, key=lambda trial: trial.latency_ms))


def _different(models: dict[Form, onnx.ModelProto]) -> dict[Form, onnx.ModelProto]:
    """Leave out forms that are the same as one before: a network may have nothing in which they differ."""
    kept: dict[str, Form] = {}
    for form, model in models.items():
        kept.setdefault(graph_sha256(model), form)
    return {form: models[form] for form in kept.values()}


def _times(name: str, models: dict[Form, onnx.ModelProto], batch: np.ndarray) -> dict[str, float]:
    with temporary_folder() as folder:
        files = [Path(folder, f"{form.name}.onnx") for form in models]
        for file, model in zip(files, models.values(), strict=True):
            save_model(model, file, {})
        found = time_files([(name, file) for file in files], batch, _ROUNDS, strict=True)
    return {form.name: time for form, time in zip(models, found, strict=True)}


def _trial(form: Form, model: onnx.ModelProto, times: dict[str, float], one: Candidate | None) -> FormTrial:
    found = FormTrial(form=form.name, latency_ms=times[form.name], size=model.ByteSize())
    if one is None:
        return found
    comparison = one.comparison
    return replace(found, accuracy=comparison.accuracy, agreement=comparison.agreement, p_value=comparison.p_value)
