"""From a run's FP32 file to one smaller file for each family of backends, each held to FP32's accuracy.

The distributions of the activations are collected once, on a calibration set out of train, and every
flavour is written from them: Q/DQ files by ONNX Runtime's quantizer (``quantization/qdq.py``), FP16
(``graph/fp16.py``), and TensorRT's calibration cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.outputs import claim_output, new_file
from edgeclf_runtime.files.read import sha256_file

from ..calibration.sets import CalibrationSet
from ..data.datasets import Dataset
from ..data.folder_update import updated_folder
from ..data.sampling import evenly_spaced
from ..errors import EdgeclfError, OptionError
from ..evaluation.inference import Judges, time_files
from ..evaluation.opening import model_metadata
from ..graph.onnx_file import prepare, save_model
from ..progress import say
from ..targets import CALIBRATION_CACHE, FLAVORS, opset_of
from ..training.runs import Run, read_run
from .activations import ranges_of
from .dynamic import measure_baseline
from .histogram_store import HISTOGRAM_FILE, keep_histograms, recall_histograms
from .page import make_page
from .ranges import METHODS
from .report import Findings, QuantizedFile, QuantizeReport
from .rounding import Rounding, collect_moments
from .search import Candidate, Search
from .tensorrt_cache import format_cache

REPORT_FILE = "quantization.json"
REPORT_PAGE = "quantization.html"
JUDGES = 500
"""Images that tell a loss of one point from chance; training images fill up a smaller validation split."""
MOST_JUDGES = 2000
"""They are held in memory, since every file looks at them; of a larger validation split as many, evenly spaced."""


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantise."""

    calibration: str | None = None
    """A calibration set's folder; None selects images from the run's train split."""
    size: int = 300
    """Images to select where no set is given."""
    flavors: tuple[str, ...] = tuple(FLAVORS)
    """Which files to write, by their names in targets.FLAVORS."""
    method: str = "best"
    """How an activation's range comes from its values, by a name in range_methods.METHODS; best: all are tried for
    each file, and of those that lose no accuracy beyond chance the one that diverges least from FP32 is kept."""
    max_drop: float = 0.01
    """Largest loss of accuracy against FP32, on the same images, that is accepted."""
    seed: int = 0
    """Changes which images are selected."""
    baseline: bool = False
    """Whether torch's dynamic quantization of the linear layers is measured too, for comparison."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.flavors) - set(FLAVORS))
        if unknown or not self.flavors:
            raise OptionError(
                f"there is no flavor {', '.join(unknown) or '(none named)'}; there are {', '.join(FLAVORS)}"
            )
        if self.method not in ("best", *METHODS):
            raise OptionError(f"there is no range method {self.method!r}; there are best, {', '.join(METHODS)}")
        if not 0 <= self.max_drop <= 1:
            raise OptionError(f"max-drop is {self.max_drop}; 0 to 1 was expected (0.01 is one point of accuracy)")

    @property
    def methods(self) -> tuple[str, ...]:
        """The range methods to try."""
        return tuple(METHODS) if self.method == "best" else (self.method,)


def quantize(run: str | Path | Run, options: QuantizeOptions | None = None, overwrite: bool = False) -> QuantizeReport:
    """Write a run's model.NAME.onnx for each flavour, calibration.cache, quantization.json and quantization.html.

    A Q/DQ file that loses more than ``max_drop`` of accuracy on the validation images (filled up
    to JUDGES with training images that calibration did not see) gets its most sensitive layers
    back in float, as few as make it pass.  Raises GateError, exit code 3, where nothing does; no
    file is kept then.  Raises DataError for a calibration set whose files changed, ModelError for
    activations that are not finite, and OutputError where a file is there already and
    ``overwrite`` is not given.
    """
    if not isinstance(run, Run):
        run = read_run(run)
    options = options or QuantizeOptions()
    source = run.file("model.fp32.onnx")
    targets = {name: run.path / f"model.{name}.onnx" for name in options.flavors}
    for target in (*targets.values(), run.path / CALIBRATION_CACHE):
        claim_output(target, overwrite)
    dataset = run.dataset()
    calibration = _calibration_set(dataset, options)
    batches = calibration.batches(run.preprocessing)
    graph = prepare(source)
    histograms = recall_histograms(run, calibration, graph, batches, keep=False)
    judges = _judges(run, dataset, calibration, source)
    rounding = Rounding(graph, collect_moments(graph, batches))
    search = Search(graph, histograms, rounding, judges, batches, options.methods, options.max_drop)
    found: dict[str, Candidate] = {}
    try:
        for name in options.flavors:
            found[name] = search.best(name, found)
    except (EdgeclfError, KeyboardInterrupt):
        # With other options the next try begins where this one failed.
        with new_file(run.path / HISTOGRAM_FILE, overwrite=True) as kept:
            keep_histograms(kept, run, calibration, histograms)
        raise
    with updated_folder(run.path) as folder:
        works = {name: folder / target.name for name, target in targets.items()}
        for name, work in works.items():
            save_model(found[name].model, work, model_metadata(run, name), opset_of(name))
        times = dict(zip(("fp32", *works), time_files([("fp32", source), *works.items()], batches[0]), strict=True))
        files = tuple(
            _file(found[name], search, name, str(targets[name]), work, times[name]) for name, work in works.items()
        )
        report = _report(run, options, calibration, judges, files, times["fp32"])
        texts = {
            CALIBRATION_CACHE: format_cache(ranges_of(histograms, _cache_method(found))),
            REPORT_FILE: report.to_json(indent=1) + "\n",
            REPORT_PAGE: make_page(report, {layer.name: histograms[layer.output] for layer in search.layers}),
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        keep_histograms(folder / HISTOGRAM_FILE, run, calibration, histograms)
        # Somebody else may have quantised the run meanwhile.
        for target in (*targets.values(), run.path / CALIBRATION_CACHE):
            claim_output(target, overwrite)
    return report


def _report(
    run: Run,
    options: QuantizeOptions,
    calibration: CalibrationSet,
    judges: Judges,
    files: tuple[QuantizedFile, ...],
    latency_fp32_ms: float,
) -> QuantizeReport:
    source = run.file("model.fp32.onnx")
    return QuantizeReport(
        run=str(run.path),
        calibration_images=len(calibration),
        calibration_sha256=calibration.sha256,
        judged_images=len(judges),
        max_drop=options.max_drop,
        accuracy_fp32=float((judges.reference.argmax(1) == judges.truth).mean()),
        size_fp32=source.stat().st_size,
        sha256_fp32=sha256_file(source),
        latency_fp32_ms=latency_fp32_ms,
        files=files,
        baseline=measure_baseline(run, judges) if options.baseline else None,
    )


def _file(found: Candidate, search: Search, name: str, path: str, work: Path, latency_ms: float) -> QuantizedFile:
    return QuantizedFile(
        **vars(found.comparison),
        **{field.name: getattr(found, field.name) for field in fields(Findings)},
        name=name,
        path=path,
        size=work.stat().st_size,
        sha256=sha256_file(work),
        latency_ms=latency_ms,
        layers=len(search.layers),
    )


def _cache_method(found: Mapping[str, Candidate]) -> str:
    """Return the range method for TensorRT's calibrator: that of its own Q/DQ file, else of another."""
    methods = {name: candidate.method for name, candidate in found.items() if candidate.method}
    return methods.get("int8-tensorrt", next(iter(methods.values()), "minmax"))


def _calibration_set(dataset: Dataset, options: QuantizeOptions) -> CalibrationSet:
    if options.calibration:
        calibration = CalibrationSet.load(options.calibration).refuse_held_out(dataset)
    else:
        calibration = CalibrationSet.select(dataset, options.size, options.seed).verify()
    _warn_of_missing_labels(dataset, calibration)
    return calibration.warn_if_few()


def _warn_of_missing_labels(dataset: Dataset, calibration: CalibrationSet) -> None:
    train = dataset.split("train")
    label_of = dict(zip(dataset.sha256(train), (sample.label for sample in train), strict=True))
    seen = {label_of.get(digest) for digest, _ in calibration.entries}
    missing = [label for label in dataset.labels if label not in seen]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        say(
            f"warning: no calibration image is of {', '.join(missing[:5])}{more}; its activations' ranges are not known"
        )


def _judges(run: Run, dataset: Dataset, calibration: CalibrationSet, source: Path) -> Judges:
    """Return what INT8 is held to: val, and as many of train, outside the calibration set, as are wanting."""
    calibrated = set(calibration.paths)
    spare = [sample for sample in dataset.split("train") if sample.path not in calibrated]
    by_hash = sorted(zip(dataset.sha256(spare), spare, strict=True), key=lambda pair: pair[0])
    validation = dataset.split("val")
    samples = validation + [sample for _, sample in by_hash[: max(0, JUDGES - len(validation))]]
    samples = [samples[place] for place in evenly_spaced(len(samples), MOST_JUDGES)]
    truth = np.array([dataset.index(sample) for sample in samples])
    return Judges.load(source, run.labels, [sample.path for sample in samples], truth, run.preprocessing)
