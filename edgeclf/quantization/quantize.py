"""Quantizes a run's FP32 file: one smaller file for each family of backends, each compared with FP32.

The distributions of the activations are collected once, over a calibration set taken from the training images.  Every
flavor is written from them: Q/DQ files (``qdq.py``), FP16 (``graph/fp16.py``), and TensorRT's calibration cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeclf_runtime.files.outputs import claim_output
from edgeclf_runtime.files.read import sha256_file

from ..calibration.sets import CalibrationSet
from ..data.datasets import Dataset, Sample
from ..data.folder_update import updated_folder
from ..data.pixels import preprocessing_sha256
from ..data.sampling import evenly_spaced
from ..errors import EdgeclfError
from ..evaluation.comparison import compare
from ..evaluation.evaluation_set import EvaluationSet
from ..evaluation.logit_store import LOGIT_FILE, write_logits
from ..evaluation.open_model import model_metadata
from ..graph.inference import infer_file, time_files
from ..graph.onnx_file import prepare, save_model
from ..options import QuantizeOptions
from ..progress import say
from ..targets import CALIBRATION_CACHE, model_file, opset_of
from ..training.runs import Run, read_run
from .calibration_cache import format_cache
from .dynamic import DYNAMIC, infer_dynamic
from .histogram_store import HISTOGRAM_FILE, HistogramStore
from .histograms import BINS, SAMPLE
from .html_page import make_page
from .ranges import ranges_of
from .report import Baseline, QuantizedFile, QuantizeReport
from .rounding import Rounding, collect_moments
from .search import Candidate, Search

REPORT_FILE = "quantization.json"
REPORT_PAGE = "quantization.html"
EVALUATION_IMAGES = 500
"""Evaluation images needed to tell a one-point drop from noise; a smaller validation split is topped up from train."""
MOST_EVALUATION_IMAGES = 2000
"""Of a larger validation split this many, evenly spaced: every file is evaluated on them."""


def quantize(run: str | Path | Run, options: QuantizeOptions | None = None, overwrite: bool = False) -> QuantizeReport:
    """Write a run's model.NAME.onnx for each flavor, calibration.cache, quantization.json and quantization.html.

    A Q/DQ file whose accuracy drops by more than ``max_drop`` on the evaluation images gets its most sensitive layers
    back in float, as few as make it pass.  Raises GateError, exit code 3, if that is not enough; no file is kept then.
    Raises DataError for a calibration set whose files changed, ModelError for activations that are not finite, and
    OutputError if a file exists and ``overwrite`` is not given.
    """
    if not isinstance(run, Run):
        run = read_run(run)
    options = options or QuantizeOptions()
    source = run.file(model_file("fp32"))
    targets = {name: run.path / model_file(name) for name in options.flavors}
    _claim(run.path, targets, overwrite)

    # What goes in: the graph, the calibration images and their histograms, the evaluation images and FP32's logits.
    dataset = run.dataset()
    calibration = _calibration_set(dataset, options)
    batches = calibration.batches(run.preprocessing)
    graph = prepare(source)
    store = HistogramStore(run.path / HISTOGRAM_FILE, histogram_key(run, source, calibration))
    histograms = store.recall(graph, batches)
    images = EvaluationSet(_evaluation_samples(dataset, calibration), run.labels, run.preprocessing)
    reference = infer_file(source, "fp32", images.batches("evaluating fp32"))

    # The best file of each flavor.
    search = Search(
        graph=graph,
        histograms=histograms,
        rounding=Rounding(graph, collect_moments(graph, batches)),
        images=images,
        reference=reference,
        batches=batches,
        methods=options.methods,
        max_drop=options.max_drop,
    )
    found: dict[str, Candidate] = {}
    try:
        for name in options.flavors:
            found[name] = search.best(name, found)
    except (EdgeclfError, KeyboardInterrupt):
        store.keep(histograms)  # the next attempt, with other options, begins where this one failed
        raise

    # What comes out, all of it or nothing.
    with updated_folder(run.path) as folder:
        works = {name: folder / target.name for name, target in targets.items()}
        for name, work in works.items():
            save_model(found[name].model, work, model_metadata(run, name), opset_of(name))
        report = _report(run, options, calibration, search, found, works)
        _write_report(folder, report, search)
        cache = format_cache(ranges_of(histograms, _cache_method(found)))
        (folder / CALIBRATION_CACHE).write_text(cache, encoding="utf-8")
        store.write(folder / HISTOGRAM_FILE, histograms)
        logits = {file.sha256: found[file.name].logits for file in report.files}
        write_logits(folder / LOGIT_FILE, images, {report.sha256_fp32: reference, **logits})
        _claim(run.path, targets, overwrite)  # another process may have quantized the run meanwhile
    return report


def _report(
    run: Run,
    options: QuantizeOptions,
    calibration: CalibrationSet,
    search: Search,
    found: Mapping[str, Candidate],
    works: Mapping[str, Path],
) -> QuantizeReport:
    """Time the files, and return what is known of them; ``works``: where they are until all is written."""
    source = run.file(model_file("fp32"))
    times = dict(zip(("fp32", *works), time_files([("fp32", source), *works.items()], search.batches[0]), strict=True))
    files = [
        QuantizedFile(
            comparison=found[name].comparison,
            findings=found[name].findings,
            name=name,
            path=str(run.path / work.name),
            size=work.stat().st_size,
            sha256=sha256_file(work),
            latency_ms=times[name],
            layers=len(search.layers),
        )
        for name, work in works.items()
    ]
    return QuantizeReport(
        run=str(run.path),
        calibration_images=len(calibration),
        calibration_sha256=calibration.sha256,
        judged_images=len(search.images),
        max_drop=options.max_drop,
        accuracy_fp32=float((search.reference.argmax(1) == search.images.truth).mean()),
        size_fp32=source.stat().st_size,
        sha256_fp32=sha256_file(source),
        latency_fp32_ms=times["fp32"],
        files=tuple(files),
        baseline=_baseline(run, search) if options.baseline else None,
    )


def _write_report(folder: Path, report: QuantizeReport, search: Search) -> None:
    (folder / REPORT_FILE).write_text(report.to_json(indent=1) + "\n", encoding="utf-8")
    page = make_page(report, {layer.name: search.histograms[layer.output] for layer in search.layers})
    (folder / REPORT_PAGE).write_text(page, encoding="utf-8")


def _claim(folder: Path, targets: Mapping[str, Path], overwrite: bool) -> None:
    for target in (*targets.values(), folder / CALIBRATION_CACHE):
        claim_output(target, overwrite)


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
            f"warning: no calibration image has the label {', '.join(missing[:5])}{more}; "
            "the ranges of such images' activations are not known"
        )


def histogram_key(run: Run, source: Path, calibration: CalibrationSet) -> dict[str, str]:
    """Return what the histograms are made from."""
    return {
        "model": sha256_file(source),
        "calibration set": calibration.sha256,
        "preprocessing": preprocessing_sha256(run.preprocessing),
        "settings": f"{BINS} bins, {SAMPLE} values",
    }


def _evaluation_samples(dataset: Dataset, calibration: CalibrationSet) -> list[Sample]:
    """Return the validation split, topped up with training images that are not used for calibration."""
    calibrated = set(calibration.paths)
    spare = [sample for sample in dataset.split("train") if sample.path not in calibrated]
    by_hash = sorted(zip(dataset.sha256(spare), spare, strict=True), key=lambda pair: pair[0])
    validation = dataset.split("val")
    samples = validation + [sample for _, sample in by_hash[: max(0, EVALUATION_IMAGES - len(validation))]]
    return [samples[i] for i in evenly_spaced(len(samples), MOST_EVALUATION_IMAGES)]


def _cache_method(found: Mapping[str, Candidate]) -> str:
    """Return the range method for TensorRT's calibrator: that of its own Q/DQ file, else of another file."""
    methods = {name: one.findings.method for name, one in found.items() if one.findings.method}
    return methods.get("int8-tensorrt", next(iter(methods.values()), "minmax"))


def _baseline(run: Run, search: Search) -> Baseline | None:
    if run.imported:
        say(f"{DYNAMIC} needs a torch network, which an imported run does not have: the baseline is left out")
        return None
    images = search.images
    logits, size, latency_ms = infer_dynamic(run.network(), images)
    comparison = compare(images.labels, images.truth, search.reference, logits)
    return Baseline(comparison=comparison, name=DYNAMIC, size=size, latency_ms=latency_ms)
