"""``build``: builds a bundle's TensorRT engines ahead of the first start, and finds the fastest that is right."""

import os
import platform
import time
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple, Union

from ..bundle.open_bundle import Bundle, Model, open_bundle
from ..classify.selection import candidates, open_proven, pair_name
from ..classify.tuning.choice import choose
from ..errors import BackendError, OptionError
from ..text.terminal import printable
from ..trt import engine_cache
from ..trt.cuda import Device, find_device
from ..trt.engine import ensure_engine, forget_engines
from ..trt.engine_spec import EngineOptions
from ..trt.versions import load_tensorrt
from .option_types import PRECISIONS

if TYPE_CHECKING:
    from ..files.schema import JsonObject

BACKEND = "tensorrt"


class BuiltEngine(NamedTuple):
    """A cached engine whose model passes its golden images.

    seconds     duration of this build with the golden images; short if the engine was cached before
    facts       contents of the JSON file beside the engine: key, sha256, time and more
    """

    model: str
    precision: str
    seconds: float
    facts: "JsonObject"


class BuildReport(NamedTuple):
    """The result of a build.

    tensorrt    TensorRT's version
    gpu         the GPU's name
    engines     the engines that are right
    failures    reasons for missing or unused engines, by "model on tensorrt"
    fastest     the fastest "model on backend" of all that run here, if they were measured
    folder      the folder of the engines
    note        a note for the user, or ""
    """

    tensorrt: str
    gpu: str
    engines: Tuple[BuiltEngine, ...]
    failures: Dict[str, str]
    fastest: Optional[str]
    folder: str
    note: str

    def to_dict(self) -> "JsonObject":
        """Return the report as JSON can hold it."""
        return dict(self._asdict(), engines=[dict(engine._asdict()) for engine in self.engines])

    def __str__(self) -> str:
        lines = ["TensorRT {} on {}, engines in {}".format(self.tensorrt, self.gpu, self.folder)]
        lines += [
            "ready: {} ({}), {:.1f} MB, {:.0f} s, layers: {}".format(
                e.model, e.precision, e.facts["bytes"] / 1e6, e.seconds, _layers(e.facts)
            )
            for e in self.engines
        ]
        lines += ["not built: {}: {}".format(name, reason) for name, reason in self.failures.items()]
        lines += ["fastest here: " + self.fastest] if self.fastest else []
        lines += [self.note] if self.note else []
        return "\n".join(printable(line, "\n  ") for line in lines)


def build(
    bundle: Union[str, "os.PathLike[str]"],
    model: Optional[str] = None,
    precision: str = "best",
    options: Optional[EngineOptions] = None,
) -> BuildReport:
    """Build the engines of a bundle's models for this GPU, and check each on the golden images.

    model       build only this model
    precision   build only models of "fp32", "fp16" or "int8"; "best" builds all, measures everything that runs on this
                device, and remembers the fastest, as --tune does
    options     see EngineOptions; engines that are right are used from now on

    Raises OptionError for an invalid option, and BackendError if there is no TensorRT, no GPU, or no such model.
    """
    if precision not in PRECISIONS:
        raise OptionError("there is no precision {!r}; choose from {}".format(precision, ", ".join(PRECISIONS)))
    opened = open_bundle(bundle)
    options = options or EngineOptions()
    options.check()
    tensorrt = load_tensorrt().__version__
    models, note = _of_precision(_models(opened, model), precision)
    device = find_device()
    built: List[Tuple[Model, str, float]] = []
    engines: List[BuiltEngine] = []
    failures: Dict[str, str] = {}
    # All are built before the first is opened: this process needs no memory on the GPU until then.
    for candidate in models:
        try:
            built.append(_build(opened, candidate, device, options))
        except BackendError as error:
            failures[pair_name(candidate, BACKEND)] = str(error)
    for candidate, folder, seconds in built:
        try:
            engines.append(_prove(opened, candidate, device, folder, seconds))
        except BackendError as error:
            failures[pair_name(candidate, BACKEND)] = str(error)
    fastest = None
    if precision == "best" and engines:
        pairs = [pair for pair in candidates(opened, model) if pair_name(*pair) not in failures]
        fastest = pair_name(*choose(opened, pairs, tune=True).pairs[0])
    folder = engines[0].facts["folder"] if engines else "".join(engine_cache.folders()[:1])
    return BuildReport(tensorrt, device.name, tuple(engines), failures, fastest, folder, note)


def _models(bundle: Bundle, model: Optional[str]) -> List[Model]:
    """Return the models that this machine would run on TensorRT."""
    models = [bundle.model(model)] if model else bundle.in_order(platform.machine())
    models = [m for m in models if BACKEND in m.backends]
    if not models:
        raise BackendError(
            "{} has no model for TensorRT on this machine ({}); make the bundle again: edgeclf bundle RUN --target NAME".format(
                bundle.path, platform.machine()
            )
            if model is None
            else "the model {} is not for TensorRT; leave out --model, or name another (info lists them)".format(model)
        )
    return models


def _of_precision(models: List[Model], precision: str) -> Tuple[List[Model], str]:
    """Return the models of a precision, and a note; the FP32 model replaces a missing FP16 one."""
    found = [m for m in models if precision in ("best", m.precision)]
    if found:
        return found, ""
    instead = [m for m in models if m.precision == "fp32"]
    if precision == "fp16" and instead:
        return instead, "the bundle has no fp16 model for TensorRT, so this is an FP32 engine"
    raise BackendError(
        "the bundle has no {} model for TensorRT; use --precision {}".format(
            precision, " or ".join(sorted({m.precision for m in models}))
        )
    )


def _build(bundle: Bundle, model: Model, device: Device, options: EngineOptions) -> Tuple[Model, str, float]:
    """Build or find a model's engine; returns the Model, the engine's folder, and the duration in seconds."""
    start = time.monotonic()
    engine = ensure_engine(bundle.file(model.file), device, options, tuple(bundle.preprocessing))
    return model, engine.folder, time.monotonic() - start


def _prove(bundle: Bundle, model: Model, device: Device, folder: str, seconds: float) -> BuiltEngine:
    """Return the BuiltEngine if the engine passes the golden images; if not, go back to the default engine."""
    start = time.monotonic()
    try:
        with open_proven(bundle, model, BACKEND) as runner:
            facts = dict(runner.facts, folder=folder)
    except BackendError:
        forget_engines(bundle.file(model.file), device)
        raise
    return BuiltEngine(model.name, model.precision, round(seconds + time.monotonic() - start, 1), facts)


def _layers(facts: "JsonObject") -> str:
    counts = facts["layer_precisions"]
    return counts if isinstance(counts, str) else ", ".join("{} {}".format(n, name) for name, n in counts.items())
