"""Quantizes a run's FP32 file: one smaller file for each family of backends, each compared with FP32.

The distributions of the activations are collected once, over a calibration set taken from the training images.  Every
flavor is written from them: Q/DQ files (``qdq.py``), FP16 (``graph/fp16.py``), and TensorRT's calibration cache.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.files.outputs import claim_output
from edgeclf_runtime.files.read import sha256_file

from ..calibration.sets import EVALUATION_IMAGES, CalibrationSet, within_training_images
from ..data.datasets import Dataset, Sample
from ..data.findings import count_files
from ..data.folder_update import updated_folder
from ..data.pixels import preprocessing_sha256
from ..data.sampling import evenly_spaced
from ..display.progress import say
from ..errors import EdgeclfError, GateError
from ..evaluation.accuracy_gate import evaluation_warning, gate_warning
from ..evaluation.comparison import compare
from ..evaluation.evaluation_set import EvaluationSet
from ..evaluation.export import exported
from ..evaluation.logit_store import LOGIT_FILE, read_logits, write_logits
from ..evaluation.metadata import model_metadata
from ..graph.inference import infer_file, time_files
from ..graph.onnx_file import prepare, save_model
from ..options import QuantizeOptions, merged
from ..targets import CALIBRATION_CACHE, FLAVORS, model_file, opset_of
from ..training.runs import Run, read_run
from .calibration_cache import format_cache
from .dynamic import DYNAMIC, infer_dynamic
from .histogram_store import HISTOGRAM_FILE, HistogramStore
from .histograms import BINS, SAMPLE
from .html_page import make_page
from .ranges import ranges_of
from .report import (
    REPORT_FILE,
    REPORT_PAGE,
    Baseline,
    Conditions,
    FailedFlavor,
    FlavorError,
    QuantizedFile,
    QuantizeReport,
    read_report,
)
from .rounding import Rounding, collect_moments
from .search import Candidate, Search

_CACHED = "int8-tensorrt"
"""The flavor that the calibration cache is the other form of."""
MOST_EVALUATION_IMAGES = 2000
"""Of a larger validation split this many, evenly spaced: every file is evaluated on them."""


def quantize(
    run: str | Path | Run, options: QuantizeOptions | None = None, overwrite: bool = False, **keywords: Any
) -> QuantizeReport:
    """Write a run's model.NAME.onnx for each flavor, calibration.cache, quantization.json and quantization.html.

    A Q/DQ file whose accuracy drops by more than ``max_drop`` on the evaluation images gets its most sensitive layers
    back in float, as few as make it pass.  If that is not enough, the flavor is left out, and the others are written.
    Files of an earlier call stay, and are not made again without ``overwrite``; the report describes them too.  A run that was
    not exported is exported first.

    Raises FlavorError, a GateError with exit code 3, if a flavor named in ``options.flavors`` did not pass, or if none
    did; everything that passed is written before.  Raises DataError if the images that it needs are gone (those of val, and
    of train if no calibration set is given), and for a calibration set whose files changed, ModelError
    for activations that are not finite, and OutputError if a file exists and ``overwrite`` is not given.
    """
    options = merged(QuantizeOptions, options, keywords)
    if not isinstance(run, Run):
        run = read_run(run)
    dataset = _dataset(run, options)
    source = exported(run, dataset)
    earlier = earlier_report(run)
    names = _names(run, options, earlier, overwrite)

    calibration = _calibration_set(run, dataset, options)
    store = HistogramStore(run.path / HISTOGRAM_FILE, histogram_key(run, source, calibration))
    search = _prepare(run, source, options, dataset, calibration, store)
    conditions = _conditions(options, dataset, calibration, search.images)
    try:
        found, failed = _search(search, names, _bases(run, earlier, names, calibration))
    except (EdgeclfError, KeyboardInterrupt):
        store.keep(search.histograms)  # the next attempt, with other options, begins where this one failed
        raise

    # What comes out, all of it or nothing.
    with updated_folder(run.path) as folder:
        for name, one in found.items():
            save_model(one.model, folder / model_file(name), model_metadata(run, name), opset_of(name))
        report = _report(run, options, conditions, search, found, failed, folder)
        gone, unreadable = (count_files(dataset.findings, kind) for kind in ("gone", "unreadable"))
        report = replace(_with_earlier(report, earlier), gone=gone, unreadable=unreadable)
        _write_report(folder, report, search)
        if found and not _keeps_cache(run, names, failed, earlier):
            cache = format_cache(ranges_of(search.histograms, _cache_method(found)))
            (folder / CALIBRATION_CACHE).write_text(cache, encoding="utf-8")
        store.write(folder / HISTOGRAM_FILE, search.histograms)
        _write_logits(run, folder, report, search, found)
        for name in found:  # another process may have quantized the run meanwhile
            claim_output(run.path / model_file(name), overwrite)
    _say_warnings(report, failed)
    refused = tuple(name for name in failed if name in options.flavors or not report.files)
    if refused:
        raise FlavorError(report, refused)
    return report


def _dataset(run: Run, options: QuantizeOptions) -> Dataset:
    """Return the run's images; with a calibration set, training images may be gone, and the evaluation images be new."""
    return run.dataset(
        options.data,
        needs=("val",) if options.calibration else ("train", "val"),
        skip_unreadable=options.skip_unreadable,
        accept_new=bool(options.calibration),
    )


def _prepare(
    run: Run,
    source: Path,
    options: QuantizeOptions,
    dataset: Dataset,
    calibration: CalibrationSet,
    store: HistogramStore,
) -> Search:
    """Collect what every flavor is made from: the graph, the histograms, and FP32's logits of the evaluation images."""
    batches = calibration.batches(run.preprocessing)
    graph = prepare(source)
    images = EvaluationSet(_evaluation_samples(dataset, calibration), run.labels, run.preprocessing)
    return Search(
        graph=graph,
        histograms=store.recall(graph, batches),
        rounding=Rounding(graph, collect_moments(graph, batches)),
        images=images,
        reference=infer_file(source, "fp32", images.batches("evaluating fp32")),
        batches=batches,
        methods=options.methods,
        max_drop=options.max_drop,
    )


def earlier_report(run: Run) -> QuantizeReport | None:
    """Return the report of earlier calls with the files that are still there, None unless they are of the FP32 file."""
    try:
        report = read_report(run.path)
    except (OSError, ValueError) as error:
        say(f"{run.path / REPORT_FILE} is ignored ({error})")
        return None
    if report is None or report.sha256_fp32 != sha256_file(run.file(model_file("fp32"))):
        return None
    return replace(report, files=tuple(file for file in report.files if _is_current(run, file)))


def _is_current(run: Run, file: QuantizedFile) -> bool:
    """Return whether the run still has the file that a report describes."""
    path = run.path / model_file(file.name)
    return path.is_file() and sha256_file(path) == file.sha256


def _names(run: Run, options: QuantizeOptions, earlier: QuantizeReport | None, overwrite: bool) -> list[str]:
    """Return the flavors to make; OutputError if a file of one exists that may not be replaced."""
    kept = {file.name for file in earlier.files} if earlier else set()
    names = list(options.wanted)
    if not options.flavors and not overwrite:
        names = [name for name in names if name not in kept] or names
    for name in names:
        claim_output(run.path / model_file(name), overwrite)
    if earlier is None:
        claim_output(run.path / CALIBRATION_CACHE, overwrite)
    return names


def _search(
    search: Search, names: Sequence[str], bases: Mapping[str, Candidate]
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """Return the best file of each flavor, and of each that did not pass the reason.

    bases: files of an earlier call, from which others may be made.
    """
    found: dict[str, Candidate] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            found[name] = search.best(name, {**bases, **found}, failed)
        except GateError as error:
            say(f"{name} does not pass")
            failed[name] = str(error)
    return found, failed


def _bases(
    run: Run, earlier: QuantizeReport | None, names: Sequence[str], calibration: CalibrationSet
) -> dict[str, Candidate]:
    """Return the files of an earlier call from which a flavor in ``names`` is made, and which are not made again."""
    import onnx

    bases = {FLAVORS[name].half_of for name in names} - set(names)
    return {
        file.name: Candidate(
            model=onnx.load(run.file(model_file(file.name))),
            logits=np.zeros((0, len(run.labels)), np.float32),  # only the model and its findings are used
            comparison=file.comparison,
            findings=file.findings,
        )
        for file in (earlier.files if earlier else ())
        if file.name in bases and file.conditions.calibration_sha256 == calibration.sha256
    }


def _conditions(
    options: QuantizeOptions, dataset: Dataset, calibration: CalibrationSet, images: EvaluationSet
) -> Conditions:
    trained = {sample.path for sample in _train(dataset)}
    return Conditions(
        calibration_images=len(calibration),
        calibration_sha256=calibration.sha256,
        judged_images=len(images),
        trained_images=sum(path in trained for path in images.paths),
        options=asked(options),
    )


def asked(options: QuantizeOptions) -> dict[str, Any]:
    """Return the options that decide how a file is made and whether it passes, by name."""
    return {name: getattr(options, name) for name in ("calibration", "size", "method", "max_drop", "seed")}


def _report(
    run: Run,
    options: QuantizeOptions,
    conditions: Conditions,
    search: Search,
    found: Mapping[str, Candidate],
    failed: Mapping[str, str],
    folder: Path,
) -> QuantizeReport:
    """Time the files, and return what is known of them; ``folder``: where they are until all is written."""
    source = run.file(model_file("fp32"))
    works = {name: folder / model_file(name) for name in found}
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
            conditions=conditions,
        )
        for name, work in works.items()
    ]
    judged, trained = conditions.judged_images, conditions.trained_images
    doubts = [gate_warning(file.name, file.comparison, judged, options.max_drop) for file in files]
    return QuantizeReport(
        run=str(run.path),
        calibration_images=conditions.calibration_images,
        calibration_sha256=conditions.calibration_sha256,
        judged_images=judged,
        max_drop=options.max_drop,
        accuracy_fp32=float((search.reference.argmax(1) == search.images.truth).mean()),
        size_fp32=source.stat().st_size,
        sha256_fp32=sha256_file(source),
        latency_fp32_ms=times["fp32"],
        files=tuple(files),
        baseline=_baseline(run, search) if options.baseline else None,
        failed=tuple(FailedFlavor(name=name, reason=reason, conditions=conditions) for name, reason in failed.items()),
        warnings=tuple(filter(None, (evaluation_warning(judged, trained), *doubts))),
    )


def _with_earlier(report: QuantizeReport, earlier: QuantizeReport | None) -> QuantizeReport:
    """Return a report with the files of earlier calls that were not made again, and the flavors that failed then."""
    if earlier is None:
        return report
    made = {file.name for file in report.files}
    files = {file.name: file for file in (*earlier.files, *report.files)}
    failed = {one.name: one for one in (*earlier.failed, *report.failed) if one.name not in made}
    return replace(
        report,
        files=tuple(files[name] for name in FLAVORS if name in files),
        failed=tuple(failed[name] for name in FLAVORS if name in failed),
        baseline=report.baseline or earlier.baseline,
    )


def _write_report(folder: Path, report: QuantizeReport, search: Search) -> None:
    (folder / REPORT_FILE).write_text(report.to_json(indent=1) + "\n", encoding="utf-8")
    page = make_page(report, {layer.name: search.histograms[layer.output] for layer in search.layers})
    (folder / REPORT_PAGE).write_text(page, encoding="utf-8")


def _keeps_cache(run: Run, names: Sequence[str], failed: Container[str], earlier: QuantizeReport | None) -> bool:
    """Return whether the calibration cache belongs to a TensorRT file of an earlier call, or to one that did not pass."""
    kept = earlier is not None and any(file.name == _CACHED for file in earlier.files)
    return _CACHED in failed or (kept and _CACHED not in names and (run.path / CALIBRATION_CACHE).is_file())


def _write_logits(
    run: Run, folder: Path, report: QuantizeReport, search: Search, found: Mapping[str, Candidate]
) -> None:
    """Write the logits of the evaluation images, with those of earlier files as far as they are of the same images."""
    earlier = read_logits(run.path / LOGIT_FILE, run.preprocessing)
    known = {file.sha256: earlier.known(file.sha256, search.images) for file in report.files}
    new = {file.sha256: found[file.name].logits for file in report.files if file.name in found}
    kept = {digest: logits for digest, logits in known.items() if logits is not None}
    write_logits(folder / LOGIT_FILE, search.images, {report.sha256_fp32: search.reference, **kept, **new})


def _say_warnings(report: QuantizeReport, failed: Iterable[str]) -> None:
    for warning in report.warnings:
        say(f"warning: {warning}")
    for name in failed:
        say(f"warning: no file of {name} was written: it did not pass the accuracy gate")


def _calibration_set(run: Run, dataset: Dataset, options: QuantizeOptions) -> CalibrationSet:
    if options.calibration:
        calibration = CalibrationSet.load(options.calibration, options.data).refuse_held_out(dataset)
    else:
        size = within_training_images(dataset, options.size)
        calibration = CalibrationSet.select(dataset, size, options.seed).verify()
    _warn_of_missing_labels(run, calibration)
    return calibration.warn_if_few()


def _train(dataset: Dataset) -> list[Sample]:
    return [sample for sample in dataset.samples if sample.split == "train"]


def _warn_of_missing_labels(run: Run, calibration: CalibrationSet) -> None:
    label_of = {row["sha256"]: row["label"] for row in run.split_rows() if row["split"] == "train"}
    seen = {label_of.get(digest) for digest, _ in calibration.entries}
    missing = [label for label in run.labels if label not in seen]
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
    spare = [sample for sample in _train(dataset) if sample.path not in calibrated]
    by_hash = sorted(zip(dataset.sha256(spare), spare, strict=True), key=lambda pair: pair[0])
    validation = dataset.split("val")
    samples = validation + [sample for _, sample in by_hash[: max(0, EVALUATION_IMAGES - len(validation))]]
    return [samples[i] for i in evenly_spaced(len(samples), MOST_EVALUATION_IMAGES)]


def _cache_method(found: Mapping[str, Candidate]) -> str:
    """Return the range method for TensorRT's calibrator: that of its own Q/DQ file, else of another file."""
    methods = {name: one.findings.method for name, one in found.items() if one.findings.method}
    return methods.get(_CACHED, next(iter(methods.values()), "minmax"))


def _baseline(run: Run, search: Search) -> Baseline | None:
    if run.imported:
        say(f"{DYNAMIC} needs a torch network, which an imported run does not have: the baseline is left out")
        return None
    images = search.images
    logits, size, latency_ms = infer_dynamic(run.network(), images)
    comparison = compare(images.labels, images.truth, search.reference, logits)
    return Baseline(comparison=comparison, name=DYNAMIC, size=size, latency_ms=latency_ms)
