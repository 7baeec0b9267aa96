"""The outputs of quantize() beside its model files: report and page, calibration cache and logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime.files.read import sha256_file

from ..data.findings import count_files
from ..display.progress import say
from ..evaluation.accuracy_gate import evaluation_warning, gate_warnings
from ..evaluation.comparison import compare
from ..evaluation.logit_store import LOGIT_FILE, read_logits
from ..graph.features import with_range
from ..graph.inference import time_files
from ..graph.int8.ranges import ranges_of
from ..graph.layers import layer_of_names
from ..targets import CALIBRATION_CACHE, model_file
from .candidate import Candidate
from .earlier import with_earlier
from .flavors.calibration_cache import format_cache
from .flavors.dynamic import DYNAMIC, infer_dynamic
from .html_page import make_page
from .inputs import Inputs
from .report import REPORT_FILE, REPORT_PAGE, Baseline, FailedFlavor, QuantizedFile, QuantizeReport
from .search import Failure, Search
from .speed.fastest import can_time
from .speed.layer_times import layer_times, unexpected_float

if TYPE_CHECKING:
    from ..training.architecture import ImageClassifier

_CACHED = "int8-tensorrt"
"""The flavor that the calibration cache is the other form of."""
_MOST_LAYERS = 30
"""Layers whose times the report has, the slowest."""


def write_outputs(
    folder: Path,
    inputs: Inputs,
    search: Search,
    found: Mapping[str, Candidate],
    failed: Mapping[str, Failure],
    earlier: QuantizeReport | None,
) -> QuantizeReport:
    """Write what describes the model files beside them, in a folder that becomes the run's, and return the report."""
    report = with_earlier(_report(folder, inputs, search, found, failed), earlier)
    gone, unreadable = (count_files(inputs.dataset.findings, kind) for kind in ("gone", "unreadable"))
    report = replace(report, gone=gone, unreadable=unreadable)
    _write_report(folder, report, search)
    if found and not _keeps_cache(inputs.folder, found, failed, earlier):
        cache = format_cache(with_range(search.graph, ranges_of(search.histograms, _cache_method(found))))
        (folder / CALIBRATION_CACHE).write_text(cache, encoding="utf-8")
    _write_logits(inputs, folder, report, search, found)
    return report


def _report(
    folder: Path, inputs: Inputs, search: Search, found: Mapping[str, Candidate], failed: Mapping[str, Failure]
) -> QuantizeReport:
    """Time the files, and return what is known of them; ``folder``: where they are until all is written."""
    source, options, conditions = inputs.source, inputs.options, inputs.conditions
    works = {name: folder / model_file(name) for name in found}
    times = dict(zip(("fp32", *works), time_files([("fp32", source), *works.items()], search.batches[0]), strict=True))
    layer_of = layer_of_names(search.graph.graph, search.layers)
    layers = {name: layer_times(name, work, search.batches[0], layer_of) for name, work in works.items()}
    names = {layer.name for layer in search.layers}
    files = [
        QuantizedFile(
            comparison=found[name].comparison,
            findings=found[name].findings,
            name=name,
            path=str(inputs.folder / work.name),
            size=work.stat().st_size,
            sha256=sha256_file(work),
            latency_ms=times[name],
            fp32_ms=times["fp32"] if can_time(name) else None,
            layers=len(search.layers),
            layer_times=layers[name][:_MOST_LAYERS],
            unexpected_float=unexpected_float(layers[name], names, found[name].findings.float_layers),
            conditions=conditions,
        )
        for name, work in works.items()
    ]
    judged, trained = conditions.judged_images, conditions.trained_images
    doubts = gate_warnings({file.name: file.comparison for file in files}, judged, options.max_drop)
    return QuantizeReport(
        run=str(inputs.folder),
        calibration_images=conditions.calibration_images,
        calibration_sha256=conditions.calibration_sha256,
        judged_images=judged,
        max_drop=options.max_drop,
        accuracy_fp32=float((search.reference.argmax(1) == search.images.truth).mean()),
        size_fp32=source.stat().st_size,
        sha256_fp32=sha256_file(source),
        latency_fp32_ms=times["fp32"],
        files=tuple(files),
        baseline=_baseline(inputs.network, search) if options.baseline else None,
        failed=tuple(
            FailedFlavor(name=name, reason=one.reason, conditions=conditions, finetuning=one.finetuning)
            for name, one in failed.items()
        ),
        warnings=tuple(filter(None, (evaluation_warning(judged, trained), *doubts))),
    )


def _write_report(folder: Path, report: QuantizeReport, search: Search) -> None:
    (folder / REPORT_FILE).write_text(report.to_json(indent=1) + "\n", encoding="utf-8")
    page = make_page(report, {layer.name: search.histograms[layer.output] for layer in search.layers})
    (folder / REPORT_PAGE).write_text(page, encoding="utf-8")


def _keeps_cache(
    run: Path, found: Mapping[str, Candidate], failed: Mapping[str, Failure], earlier: QuantizeReport | None
) -> bool:
    """Return whether the calibration cache belongs to a TensorRT file of an earlier call, or to one that did not pass."""
    kept = earlier is not None and any(file.name == _CACHED for file in earlier.files)
    return _CACHED in failed or (kept and _CACHED not in found and (run / CALIBRATION_CACHE).is_file())


def _write_logits(
    inputs: Inputs, folder: Path, report: QuantizeReport, search: Search, found: Mapping[str, Candidate]
) -> None:
    """Write the logits and features of the evaluation images, beside those that are known of the run's other images and files."""
    store = read_logits(inputs.folder / LOGIT_FILE, inputs.preprocessing)
    store.add(report.sha256_fp32, search.images.sha256, search.reference, search.reference_features)
    for file in report.files:
        if file.name in found:
            store.add(file.sha256, search.images.sha256, found[file.name].logits, found[file.name].features)
    models = {report.sha256_fp32, *(file.sha256 for file in report.files)}
    store.write(folder / LOGIT_FILE, inputs.preprocessing, models)


def _cache_method(found: Mapping[str, Candidate]) -> str:
    """Return the range method for TensorRT's calibrator: that of its own Q/DQ file, else of another file."""
    methods = {name: one.findings.method for name, one in found.items() if one.findings.method}
    return methods.get(_CACHED, next(iter(methods.values()), "minmax"))


def _baseline(network: Callable[[], ImageClassifier] | None, search: Search) -> Baseline | None:
    if network is None:
        say(f"{DYNAMIC} needs a torch network, which an imported run does not have: the baseline is left out")
        return None
    images = search.images
    logits, size, latency_ms = infer_dynamic(network(), images)
    comparison = compare(images.labels, images.truth, search.reference, logits)
    return Baseline(comparison=comparison, name=DYNAMIC, size=size, latency_ms=latency_ms)
