"""The best file of one flavour: each range method is tried, then the worst layers go back to float until it passes.

Knows nothing of runs, nor of where files are kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GateError
from ..evaluation.comparison import Comparison, hold
from ..evaluation.inference import Judges, time_files
from ..graph.fp16 import halve, halve_remainder
from ..graph.layers import Layer, find_layers, float_layers, float_operators
from ..graph.onnx_file import save_model
from ..progress import say
from ..targets import FLAVORS
from .activations import Ranges, ranges_of
from .histograms import Histogram
from .qdq import write_flavor
from .report import Findings, FloatLayer, Trial
from .rounding import Rounding
from .sensitivity import LayerEffect, fewest, measure_effects, measure_noise

_CHANCE = 0.05
_EFFECT_IMAGES = 64
"""Images on which each layer alone is looked at; the layers are many."""
_MOST_IN_FLOAT = 0.5
"""Share of the layers that may go back to float; with more of them the file is no INT8 file."""


@dataclass(frozen=True)
class Candidate(Findings):
    """One way to write a flavour, and how it does."""

    model: Any
    """onnx.ModelProto."""
    comparison: Comparison
    logits: np.ndarray


@dataclass(frozen=True)
class Search:
    """What every flavour of one model is made from.

    graph: onnx.ModelProto of float32, prepared.  batches: of the calibration set.
    """

    graph: Any
    histograms: dict[str, Histogram]
    rounding: Rounding
    judges: Judges
    batches: Sequence[np.ndarray]
    methods: Sequence[str]
    max_drop: float

    @cached_property
    def layers(self) -> list[Layer]:
        """The graph's layers."""
        return find_layers(self.graph.graph)

    @cached_property
    def ranges(self) -> dict[str, Ranges]:
        """Each activation's range by each method that is tried: a file is written for every layer of some models."""
        return {method: ranges_of(self.histograms, method) for method in self.methods}

    def best(self, name: str, found: Mapping[str, Candidate]) -> Candidate:
        """Return the best file of a flavour; raises GateError where none is good enough.

        found: the files of other flavours, from which this one may be made.
        """
        whole = FLAVORS[name].half_of
        if whole:
            full = found.get(whole) or self.best(whole, found)
            half = self._judge(name, halve_remainder(full.model))
            hold(name, half.comparison, half.logits, self.max_drop)
            # What was tried and measured layer by layer is of the other file.
            return replace(
                full, model=half.model, comparison=half.comparison, logits=half.logits, trials=(), noise=(), effects=()
            )
        if not FLAVORS[name].activations:
            best = self._judge(name, halve(self.graph, ranges_of(self.histograms, "minmax")))
            hold(name, best.comparison, best.logits, self.max_drop)
            return best
        tried = [self._judge(name, self._write(name, method), method) for method in self.methods]
        best = max(tried, key=_merit)
        trials = tuple(Trial(**vars(one.comparison), method=one.method, size=one.model.ByteSize()) for one in tried)
        noise = measure_noise(self.graph, best.model, self.layers, self.batches)
        refusal = self._refusal(name, best)
        if refusal:
            best = self._fall_back(name, best, refusal)
        return replace(
            best,
            trials=trials,
            noise=tuple(noise),
            float_layers=tuple(float_layers(best.model.graph)),
            float_operators=tuple(float_operators(best.model.graph)),
        )

    def _write(self, name: str, method: str, layers: Sequence[Layer] = ()) -> Any:
        nodes = [node for layer in layers for node in layer.nodes]
        return write_flavor(self.graph, FLAVORS[name], self.ranges[method], self.rounding, nodes)

    def _judge(self, name: str, model: Any, method: str = "") -> Candidate:
        logits = self.judges.infer(model, name, f"judging {name} {method}".rstrip())
        return Candidate(model, self.judges.compare(logits), logits, method=method)

    def _refusal(self, name: str, candidate: Candidate) -> GateError | None:
        try:
            hold(name, candidate.comparison, candidate.logits, self.max_drop)
        except GateError as error:
            return error
        return None

    def _fall_back(self, name: str, best: Candidate, refusal: GateError) -> Candidate:
        """Return the file with the fewest layers in float that passes."""
        say(f"{name} loses {best.comparison.drop:.4f}: which layers?")
        in_float = set(float_layers(best.model.graph))
        layers = {layer.name: layer for layer in self.layers if layer.name not in in_float}
        effects = self._effects(name, best.method, list(layers.values()))
        ranking = [layers[effect.layer] for effect in effects]

        def attempt(count: int) -> Candidate | None:
            found = self._judge(name, self._write(name, best.method, ranking[:count]), best.method)
            return None if self._refusal(name, found) else found

        found = fewest(int(_MOST_IN_FLOAT * len(self.layers)), attempt)
        if found is None:
            worst = ", ".join(effect.layer for effect in effects[:3])
            raise GateError(f"{refusal}; half of the layers in float were not enough (the worst are {worst})")
        count, passed = found
        say(f"{name} passes with {count} of {len(self.layers)} layers back in float")
        return replace(passed, fallback=tuple(self._costs(name, best.method, ranking[:count])), effects=tuple(effects))

    def _effects(self, name: str, method: str, layers: Sequence[Layer]) -> list[LayerEffect]:
        few = self.judges.first(_EFFECT_IMAGES)

        def alone(layer: Layer) -> np.ndarray:
            others = [other for other in self.layers if other is not layer]
            return few.infer(self._write(name, method, others), name, "")

        return measure_effects(layers, alone, few.reference, few.truth)

    def _costs(self, name: str, method: str, layers: Sequence[Layer]) -> list[FloatLayer]:
        """Return what each layer in float adds to the file and to its time, one after the other."""
        with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
            files = [Path(folder, f"{count}.onnx") for count in range(len(layers) + 1)]
            for count, file in enumerate(files):
                save_model(self._write(name, method, layers[:count]), file, {})
            times = time_files([(name, file) for file in files], self.batches[0])
            sizes = [file.stat().st_size for file in files]
        return [
            FloatLayer(layer.name, sizes[i + 1] - sizes[i], round(times[i + 1] - times[i], 3))
            for i, layer in enumerate(layers)
        ]


def _merit(candidate: Candidate) -> tuple[bool, float, float]:
    """Rank by: no significant loss of accuracy, then least divergence from FP32, then accuracy.

    A few hundred images cannot separate files of similar accuracy; their divergence can.  A file that is more accurate
    than FP32 is so by luck.
    """
    comparison = candidate.comparison
    lost = comparison.drop > 0 and comparison.p_value < _CHANCE
    return not lost, -comparison.divergence, comparison.accuracy
