"""Searches the best file of a flavor: every range method, the fastest form, then the worst layers back in float until it passes."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.sampling import evenly_spaced
from ..data.temporary import temporary_folder
from ..display.progress import say
from ..errors import BackendError, GateError
from ..evaluation.accuracy_gate import check_gate, gate_failure, gate_warning
from ..evaluation.bulk.image_outputs import as_halves
from ..evaluation.comparison import compare
from ..evaluation.evaluation_set import EvaluationSet
from ..graph.features import with_features
from ..graph.fp16 import halve, halve_remainder
from ..graph.inference import infer_graph, infer_graph_outputs, time_files
from ..graph.int8.forms import FORMS, Form, choose, usual_form
from ..graph.int8.histograms import Histogram
from ..graph.int8.qdq import Weights, write_flavor
from ..graph.int8.ranges import Ranges, ranges_of
from ..graph.layers import Layer, find_layers, float_layers, float_operators
from ..graph.onnx_file import graph_sha256, save_model
from ..targets import FLAVORS
from .candidate import Candidate
from .finetune.record import Finetuning, Outcome
from .finetune.tune import Finetuner
from .report import Findings, FloatLayer, FormTrial, Trial
from .sensitivity import LayerEffect, fewest, measure_effects, measure_noise
from .speed.fastest import can_time, fastest_form

if TYPE_CHECKING:
    import onnx

_CHANCE = 0.05
_TRIAL_IMAGES = 100
"""Images on which range methods are compared, at least: what these cannot tell apart are of one quality."""
_EFFECT_IMAGES = 64
"""Images on which each layer is measured by itself; the layers are many."""
_MOST_KNOWN = 10_000_000
"""Bytes of a file's outputs that are kept in case another flavor has the same file; with very many labels they would fill memory."""
_MOST_IN_FLOAT = 0.5
"""Largest share of the layers that may go back to float; with more of them the file is hardly INT8."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The reason why a flavor did not pass."""

    reason: str
    finetuning: Finetuning | None = None


class NoFileError(GateError):
    """No file of a flavor passes; ``finetuning`` is the record of fine-tuning, if it was requested."""

    def __init__(self, reason: str, finetuning: Finetuning | None = None) -> None:
        super().__init__(reason)
        self.finetuning = finetuning


@dataclass(frozen=True, kw_only=True)
class Search:
    """Everything that the flavors of one model are made from."""

    graph: onnx.ModelProto
    """The FP32 model, prepared."""
    histograms: dict[str, Histogram]
    """Of each activation, by the tensor's name."""
    rounding: Weights
    images: EvaluationSet
    reference: np.ndarray
    """FP32's logits of ``images``, float32 [images, labels]."""
    reference_features: np.ndarray | None = None
    """FP32's features of ``images``, float16 [images, features]; None if it has none."""
    batches: Sequence[np.ndarray]
    """The calibration set, float32 [1, height, width, 3] each."""
    methods: Sequence[str]
    """Range methods to try."""
    max_drop: float
    form: str = "fastest"
    """The form, which decides what computes in 8 bits on a CPU; see QuantizeOptions."""
    finetuner: Finetuner | None = None
    """Fine-tunes what does not pass with every layer in INT8."""
    known: dict[tuple[str, str | None], tuple[np.ndarray, np.ndarray, np.ndarray | None]] = field(default_factory=dict)
    """By graph and type of activations, which images were inferred, bool [images], their logits and features: flavors may share a
    file."""

    @cached_property
    def layers(self) -> list[Layer]:
        """The graph's layers."""
        return find_layers(self.graph.graph)

    @cached_property
    def ranges(self) -> dict[str, Ranges]:
        """Each activation's range, by method; a search may write hundreds of files from them."""
        return {method: ranges_of(self.histograms, method) for method in self.methods}

    @cached_property
    def extremes(self) -> Ranges:
        """Each activation's lowest and highest value."""
        return ranges_of(self.histograms, "minmax")

    def all(
        self, names: Sequence[str], bases: Mapping[str, Candidate]
    ) -> tuple[dict[str, Candidate], dict[str, Failure]]:
        """Return the best file of each flavor, and of each that did not pass the reason.

        bases: files of an earlier call, from which others may be made.
        """
        found: dict[str, Candidate] = {}
        failed: dict[str, Failure] = {}
        for name in names:
            try:
                found[name] = self.best(name, {**bases, **found}, failed)
            except (GateError, BackendError) as error:
                say(f"{name} does not pass")
                failed[name] = Failure(reason=str(error), finetuning=getattr(error, "finetuning", None))
        return found, failed

    def best(self, name: str, found: Mapping[str, Candidate], failed: Container[str] = ()) -> Candidate:
        """Return the best file of a flavor; raises GateError if none passes the accuracy gate.

        found: the files of other flavors, from which this one may be made.  failed: flavors that did not pass.
        """
        flavor = FLAVORS[name]
        if flavor.half_of:
            if flavor.half_of in failed:
                raise GateError(f"{name} is made from {flavor.half_of}, which did not pass")
            full = found.get(flavor.half_of) or self.best(flavor.half_of, found)
            return self._passing(name, self._half(name, full))
        if not flavor.activations:
            return self._passing(name, self._evaluate(name, halve(self.graph, self.extremes)))
        return self._quantized(name, found)

    def _passing(self, name: str, candidate: Candidate) -> Candidate:
        check_gate(name, candidate.comparison, candidate.logits, self.max_drop)
        return candidate

    def _half(self, name: str, full: Candidate) -> Candidate:
        half = self._evaluate(name, halve_remainder(full.model, self.extremes))
        # The methods and layers were measured for the other file.
        return replace(half, findings=replace(full.findings, trials=(), noise=(), effects=()))

    def _methods(self, name: str, found: Mapping[str, Candidate]) -> Sequence[str]:
        """Return the range methods to try: that of a file with the same steps of activations, if there is one, else all."""
        flavor = FLAVORS[name]
        if not flavor.tensorrt:  # INT8 and UINT8 have the same steps, and the zero point differs
            for other, one in found.items():
                if not FLAVORS[other].tensorrt and one.findings.method in self.methods:
                    return (one.findings.method,)
        return self.methods

    def _quantized(self, name: str, found: Mapping[str, Candidate]) -> Candidate:
        usual = usual_form(FLAVORS[name], self.graph.graph, self.form)
        first, trials = self._try(name, self._methods(name, found), usual)
        whole, forms = self._fastest(name, first)
        best, whole, record = self._passing_layers(name, whole)
        findings = replace(
            best.findings,
            trials=trials,
            noise=tuple(measure_noise(self.graph, whole.model, self.layers, self.batches)),
            float_layers=tuple(float_layers(best.model.graph)),
            float_operators=tuple(float_operators(best.model.graph)),
            finetuning=record,
            forms=forms,
        )
        return replace(best, findings=findings)

    def _try(self, name: str, methods: Sequence[str], form: Form) -> tuple[Candidate, tuple[Trial, ...]]:
        """Return the best of the range methods' files, and how each compares with FP32.

        If there are many images, a part of them decides on the method, and only its file is evaluated on the rest; the other files
        are too if that one is significantly less accurate than FP32.
        """
        models = {method: self._write(name, method, form) for method in methods}
        some = _some(len(self.images)) if len(models) > 1 else None
        tried = {method: self._evaluate(name, model, method, form, some) for method, model in models.items()}
        best = max(tried.values(), key=_merit)
        if some is not None:
            best = tried[best.findings.method] = self._evaluate(name, best.model, best.findings.method, form)
            if _is_worse(best):
                tried = {method: self._evaluate(name, model, method, form) for method, model in models.items()}
                best = max(tried.values(), key=_merit)
        return best, tuple(self._trial(one) for one in tried.values())

    def _trial(self, one: Candidate) -> Trial:
        return Trial(
            comparison=one.comparison,
            method=one.findings.method,
            size=one.model.ByteSize(),
            form=one.findings.form,
            images=len(one.logits) if len(one.logits) < len(self.images) else 0,
        )

    def _fastest(self, name: str, usual: Candidate) -> tuple[Candidate, tuple[FormTrial, ...]]:
        """Return the fastest form of a file that is accepted, and every form's time; the requested form, if there is one."""
        if self.form != "fastest" or not can_time(name):
            return usual, ()
        method = usual.findings.method
        written = {choose(self.graph, FLAVORS[name], FORMS[usual.findings.form]): usual.model}

        def write(form: Form) -> onnx.ModelProto:
            # Writing a large transformer takes seconds, and most forms are the same for it.
            choices = choose(self.graph, FLAVORS[name], form)
            if choices not in written:
                written[choices] = self._write(name, method, form)
            return written[choices]

        return fastest_form(
            name,
            usual,
            write,
            lambda model, form: self._evaluate(name, model, method, form),
            lambda one: self._accepts(name, one, usual),
            self.batches[0],
        )

    def _accepts(self, name: str, form: Candidate, usual: Candidate) -> bool:
        """Return whether a faster form loses little enough: it passes, and its 95 % interval does not leave that in doubt.

        A few percent of the time are not worth a point of accuracy.  If the usual form is in doubt too, the interval may reach as far.
        """
        if gate_failure(name, form.comparison, form.logits, self.max_drop) or _is_worse(form):
            return False
        doubt = gate_warning(name, form.comparison, len(self.images), self.max_drop)
        return not doubt or form.comparison.drop_interval[1] <= usual.comparison.drop_interval[1]

    def _passing_layers(self, name: str, whole: Candidate) -> tuple[Candidate, Candidate, Finetuning | None]:
        """Return the file that passes, that file with every layer in INT8, and the record of fine-tuning.

        whole: the file with every layer in INT8.  Raises NoFileError if none passes.
        """
        best, failure = self._fewest_in_float(name, whole)
        if best is whole or self.finetuner is None:
            if best is None:
                raise NoFileError(failure)
            return best, whole, None
        start = time.monotonic()
        weights, losses = self.finetuner.tune(name, self.graph, whole.model)
        took = round(time.monotonic() - start, 1)
        method, form = whole.findings.method, FORMS[whole.findings.form]
        tuned = replace(self, rounding=weights, finetuner=None, methods=(method,))
        tuned_whole = tuned._evaluate(name, tuned._write(name, method, form), method, form)
        tuned_best, _ = tuned._fewest_in_float(name, tuned_whole)
        before, after = _outcome(best, whole), _outcome(tuned_best, tuned_whole)
        kept = after.better_than(before)
        record = self.finetuner.record(kept=kept, losses=losses, time_s=took, before=before, after=after)
        say(f"{name}: {record}")
        best, whole = (tuned_best, tuned_whole) if kept else (best, whole)
        if best is None:
            raise NoFileError(failure, record)
        return best, whole, record

    def _fewest_in_float(self, name: str, whole: Candidate) -> tuple[Candidate | None, str]:
        """Return the file that passes with the fewest layers in float, or None and why there is none."""
        failure = gate_failure(name, whole.comparison, whole.logits, self.max_drop)
        if not failure:
            return whole, ""
        try:
            return self._fall_back(name, whole, failure), ""
        except GateError as error:
            return None, str(error)

    def _write(self, name: str, method: str, form: Form, layers: Sequence[Layer] = ()) -> onnx.ModelProto:
        nodes = [node for layer in layers for node in layer.nodes]
        return write_flavor(self.graph, FLAVORS[name], self.ranges[method], self.rounding, nodes, form)

    def _evaluate(
        self,
        name: str,
        model: onnx.ModelProto,
        method: str = "",
        form: Form | None = None,
        some: np.ndarray | None = None,
    ) -> Candidate:
        """Compare a file with FP32 on every image, or on those at the indices ``some``."""
        images = np.arange(len(self.images)) if some is None else some
        logits, features = self._outputs(name, model, images, f"evaluating {name} {method}".rstrip())
        comparison = compare(self.images.labels, self.images.truth[images], self.reference[images], logits)
        findings = Findings(method=method, form=form.name if form else "")
        return Candidate(model=model, logits=logits, comparison=comparison, findings=findings, features=features)

    def _outputs(
        self, name: str, model: onnx.ModelProto, images: np.ndarray, what: str
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a file's logits and features of the images at these indices; ``what`` names the work."""
        key = graph_sha256(model), FLAVORS[name].activations
        none = np.zeros(len(self.images), bool), np.empty_like(self.reference), _empty_like(self.reference_features)
        done, logits, features = self.known.get(key, none)
        missing = images[~done[images]]
        if len(missing):
            found = infer_graph_outputs(with_features(model), name, self.images.subset(missing).batches(what))
            logits[missing] = found.logits
            if features is not None and found.features is not None:
                features[missing] = as_halves(found.features)
            done[missing] = True
        if logits.nbytes + (0 if features is None else features.nbytes) <= _MOST_KNOWN:
            self.known[key] = done, logits, features
        return np.asarray(logits[images]), None if features is None else np.asarray(features[images])

    def _fall_back(self, name: str, best: Candidate, failure: str) -> Candidate:
        """Return the passing file with the fewest layers in float."""
        method, form = best.findings.method, FORMS[best.findings.form]
        in_float = set(float_layers(best.model.graph))
        layers = [layer for layer in self.layers if layer.name not in in_float]
        say(f"{name}: accuracy drop {best.comparison.drop:.4f} exceeds the limit; measuring each layer's sensitivity")
        effects = self._effects(name, method, form, layers)
        by_name = {layer.name: layer for layer in layers}
        ranking = [by_name[effect.layer] for effect in effects]

        def attempt(count: int) -> Candidate | None:
            candidate = self._evaluate(name, self._write(name, method, form, ranking[:count]), method, form)
            return None if gate_failure(name, candidate.comparison, candidate.logits, self.max_drop) else candidate

        found = fewest(int(_MOST_IN_FLOAT * len(self.layers)), attempt)
        if found is None:
            worst = ", ".join(effect.layer for effect in effects[:3])
            raise GateError(f"{failure}; half of the layers in float were not enough (the worst are {worst})")
        count, passed = found
        say(f"{name} passes with {count} of {len(self.layers)} layers back in float")
        costs = tuple(self._costs(name, method, form, ranking[:count]))
        return replace(passed, findings=replace(passed.findings, fallback=costs, effects=tuple(effects)))

    def _effects(self, name: str, method: str, form: Form, layers: Sequence[Layer]) -> list[LayerEffect]:
        chosen = evenly_spaced(len(self.images), _EFFECT_IMAGES)
        few = self.images.subset(chosen)

        def alone(layer: Layer) -> np.ndarray:
            others = [other for other in self.layers if other is not layer]
            return infer_graph(self._write(name, method, form, others), name, few.batches())

        return measure_effects(layers, alone, self.reference[chosen], few.truth)

    def _costs(self, name: str, method: str, form: Form, layers: Sequence[Layer]) -> list[FloatLayer]:
        """Return what each layer in float adds to the file and to its time, one after the other."""
        with temporary_folder() as folder:
            files = [Path(folder, f"{count}.onnx") for count in range(len(layers) + 1)]
            for count, file in enumerate(files):
                save_model(self._write(name, method, form, layers[:count]), file, {})
            # In pairs, so that few files are open at a time.
            pairs = [time_files([(name, file) for file in pair], self.batches[0]) for pair in pairwise(files)]
            sizes = [file.stat().st_size for file in files]
        return [
            FloatLayer(layer=layer.name, size=after - before, latency_ms=round(slower - faster, 3))
            for layer, (before, after), (faster, slower) in zip(layers, pairwise(sizes), pairs, strict=True)
        ]


def _some(count: int) -> np.ndarray | None:
    """Return the indices of the images that choose a method, a quarter of them; None if that is too few."""
    some = max(_TRIAL_IMAGES, count // 4)
    return evenly_spaced(count, some) if count >= 2 * some else None


def _empty_like(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else np.empty_like(values)


def _outcome(best: Candidate | None, whole: Candidate) -> Outcome:
    shown = best or whole
    return Outcome(
        in_float=None if best is None else len(best.findings.fallback),
        drop=shown.comparison.drop,
        agreement=shown.comparison.agreement,
        drop_int8=whole.comparison.drop,
        agreement_int8=whole.comparison.agreement,
    )


def _merit(candidate: Candidate) -> tuple[bool, float, float]:
    """Rank by: no significant accuracy drop, then least divergence from FP32, then accuracy.

    A few hundred images cannot separate files of similar accuracy; their divergence can.  A file that is more accurate
    than FP32 is so by luck.
    """
    comparison = candidate.comparison
    return not _is_worse(candidate), -comparison.divergence, comparison.accuracy


def _is_worse(candidate: Candidate) -> bool:
    """Return whether a file is significantly less accurate than FP32."""
    return candidate.comparison.drop > 0 and candidate.comparison.p_value < _CHANCE
