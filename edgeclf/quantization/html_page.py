"""The report of quantize() as one page: what was tried, what was kept, and where accuracy is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

from edgeclf_runtime.device.machine import machine_facts

from ..display.page.render import render
from ..display.report import listed, ms_text
from ..evaluation.comparison import Comparison
from ..graph.int8.histograms import Histogram
from ..graph.int8.ranges import METHODS
from .plots import drop_chart, histogram_charts, recall_chart, time_chart
from .report import QuantizedFile, QuantizeReport, Trial

_DRAWN_LAYERS = 6
_LISTED_LAYERS = 15
_SHOWN_LABELS = 20
_HEAD = (
    "file",
    "ranges",
    "size",
    "of FP32",
    "accuracy",
    "drop",
    "95% interval",
    "p",
    "agreement",
    "divergence",
    "confidence",
    "ms",
)

Row = Sequence[str]


def make_page(report: QuantizeReport, histograms: Mapping[str, Histogram]) -> str:
    """Return the page as HTML; histograms: of each layer's output, by the layer's name."""
    noisy = [file for file in report.files if file.findings.noise]
    # The histograms are those of the last call's calibration set.
    drawn = [file for file in noisy if file in report.latest]
    return render(
        "quantization.html",
        title=f"Quantization of {report.run}",
        verdict=_verdict(report),
        cards=list(_cards(report)),
        warnings=[f"Warning: {warning}." for warning in report.warnings],
        failed=[(failed.name, failed.reason) for failed in report.failed],
        earlier=[*_earlier(report), *_finetuned(report)],
        head=_HEAD,
        flavors=_flavors(report),
        drops=_drops(report) if report.files else None,
        activations=_activations(drawn[0], histograms) if drawn else None,
        noise=_noise(noisy) if noisy else None,
        times=time_chart(report) if any(file.findings.forms for file in report.files) else None,
        forms=[_forms(file) for file in report.files if file.findings.forms],
        layers=[_layers(file) for file in report.files if file.layer_times],
        costs=[_costs(file) for file in report.files if file.findings.fallback],
        origin=_origin(report),
    )


def _cards(report: QuantizeReport) -> Iterable[tuple[str, str, str]]:
    yield "FP32 accuracy", f"{report.accuracy_fp32:.1%}", f"on {report.judged_images} labeled images"
    if report.files:
        smallest = min(report.files, key=lambda file: file.size)
        least = min(report.files, key=lambda file: file.comparison.drop)
        yield (
            "smallest file",
            f"{smallest.size / 1e6:.1f} MB",
            f"{smallest.name}, FP32: {report.size_fp32 / 1e6:.1f} MB",
        )
        yield (
            "least drop",
            f"{100 * least.comparison.drop:+.2f} points",
            f"{least.name}, limit: {100 * report.max_drop:+.2f}",
        )
    yield "calibration", f"{report.calibration_images}", "images"


def _verdict(report: QuantizeReport) -> str:
    files = report.files
    if not files:
        return (
            f"No file was written: no flavor passed on the {report.judged_images} labeled images with ranges from "
            f"{report.calibration_images} calibration images."
        )
    passed = [file.name for file in files if file.comparison.drop <= report.max_drop]
    smallest = min(files, key=lambda file: file.size)
    back = "".join(
        f"; {file.name} with {len(file.findings.fallback)} of {file.layers} layers back in float"
        for file in files
        if file.findings.fallback
    )
    return (
        f"Ranges come from {report.calibration_images} calibration images; each file was compared with FP32 on the same "
        f"{report.judged_images} labeled images.  {len(passed)} of {len(files)} files lose at most the accepted "
        f"{report.max_drop:g} of FP32's accuracy of {report.accuracy_fp32:.4f} ({', '.join(passed)}{back}): {drop_range(files)}.  "
        f"The smallest file is "
        f"{smallest.name}, {smallest.size / 1e6:.1f} MB, {smallest.size / report.size_fp32:.1%} of FP32."
    )


def drop_range(files: Sequence[QuantizedFile]) -> str:
    """Return the smallest and the largest accuracy drop of files in words."""
    least, most = (choose(files, key=lambda file: file.comparison.drop) for choose in (min, max))
    low, high = (f"{file.comparison.drop:+.4f}" for file in (least, most))
    if low == high:
        return f"every drop is {low}" if len(files) > 1 else f"the drop is {low}"
    return f"the drop ranges from {low} ({least.name}) to {high} ({most.name})"


def _earlier(report: QuantizeReport) -> Iterable[str]:
    for file in report.files:
        if file not in report.latest:
            yield (
                f"{file.name}: made by an earlier call, from {file.conditions.calibration_images} calibration images, and "
                f"compared with FP32 on {file.conditions.judged_images} images."
            )


def _finetuned(report: QuantizeReport) -> Iterable[str]:
    records = [(file.name, file.findings.finetuning) for file in report.files]
    records += [(failed.name, failed.finetuning) for failed in report.failed]
    yield from (f"{name}: {record}." for name, record in records if record)


def _flavors(report: QuantizeReport) -> list[list[tuple[Row, bool]]]:
    """Return a group of rows for each file, and whether each row is of what was kept."""
    fp32 = ("fp32", "", f"{report.size_fp32 / 1e6:.2f} MB", "100.0%", f"{report.accuracy_fp32:.4f}", *6 * [""])
    groups: list[list[tuple[Row, bool]]] = [[((*fp32, f"{report.latency_fp32_ms:.2f}"), False)]]
    groups += [_tried(file, report) for file in report.files]
    if one := report.baseline:
        row = (one.name, "(for comparison)", *_measured(one.comparison, one.size, report), f"{one.latency_ms:.2f}")
        groups.append([(row, False)])
    return groups


def _tried(file: QuantizedFile, report: QuantizeReport) -> list[tuple[Row, bool]]:
    """Return a row for each method; the kept one has its time, and the number of layers back in float if there are any."""
    findings = file.findings
    tuned = findings.finetuning is not None and findings.finetuning.kept
    faster = any(trial.form not in ("", findings.form) for trial in findings.trials)
    rows: list[tuple[Row, bool]] = [
        ((file.name, _method(trial), *_measured(trial.comparison, trial.size, report), ""), False)
        for trial in findings.trials
        if trial.method != findings.method or findings.fallback or tuned or faster
    ]
    index = [trial.method for trial in findings.trials].index(findings.method) if findings.trials else 0
    added = ", fine-tuned" if tuned else ""
    added += f", {findings.form}" if faster else ""
    added += f", layers in float: {len(findings.fallback)}" if findings.fallback else ""
    kept = (
        file.name,
        f"{findings.method}{added} ✓".strip(),
        *_measured(file.comparison, file.size, report),
        ms_text(file.own_ms, 2),
    )
    rows.insert(index + bool(added), (kept, True))
    return rows


def _method(trial: Trial) -> str:
    return f"{trial.method} ({trial.images} images)" if trial.images else trial.method


def _measured(one: Comparison, size: int, report: QuantizeReport) -> tuple[str, ...]:
    low, high = one.drop_interval
    return (
        f"{size / 1e6:.2f} MB",
        f"{size / report.size_fp32:.1%}",
        f"{one.accuracy:.4f}",
        f"{one.drop:+.4f}",
        f"{low:+.4f} to {high:+.4f}",
        f"{one.p_value:.3f}",
        f"{one.agreement:.4f}",
        f"{1e3 * one.divergence:.2f}",
        f"{one.confidence_shift:+.4f}",
    )


def _drops(report: QuantizeReport) -> dict[str, object]:
    files = {file.name: file.comparison for file in report.files}
    every = [
        label
        for label in report.files[0].comparison.drop_by_label
        if all(label in f.drop_by_label for f in files.values())
    ]
    change = {label: max(abs(found.drop_by_label[label]) for found in files.values()) for label in every}
    most = sorted(every, key=lambda label: -change[label])[:_SHOWN_LABELS]
    labels = [label for label in every if label in most]
    return {
        "charts": [drop_chart(files, report.max_drop), recall_chart(files, labels)],
        "which": "each label"
        if len(labels) == len(every)
        else f"the {len(labels)} of {len(every)} labels that change most",
        "head": ["label", *files],
        "rows": [(label, *(f"{found.drop_by_label[label]:+.4f}" for found in files.values())) for label in labels],
    }


def _activations(file: QuantizedFile, histograms: Mapping[str, Histogram]) -> dict[str, object]:
    layers = [row for row in file.findings.noise if row.layer in histograms][:_DRAWN_LAYERS]
    drawn = {row.layer: histograms[row.layer] for row in layers}
    ranges = {name: [find(histogram) for find in METHODS.values()] for name, histogram in drawn.items()}
    return {
        "file": file.name,
        "method": file.findings.method,
        "charts": histogram_charts(drawn, [f"{row.snr_db:.1f} dB" for row in layers], ranges),
        "head": ["layer", *METHODS],
        "rows": [(name, *(f"{low:.4g} to {high:.4g}" for low, high in found)) for name, found in ranges.items()],
    }


def _noise(files: Sequence[QuantizedFile]) -> dict[str, object]:
    snr = {file.name: {row.layer: row.snr_db for row in file.findings.noise} for file in files}
    listed = {row.layer for file in files for row in file.findings.noise[:_LISTED_LAYERS]}
    ranking = sorted(listed, key=lambda layer: min(found[layer] for found in snr.values() if layer in found))
    most = max(found[layer] for found in snr.values() for layer in listed if layer in found)
    # The noise was measured while the layers of the fallback were still in INT8.
    kept_float = {
        file.name: {*file.findings.float_layers} - {row.layer for row in file.findings.fallback} for file in files
    }
    return {
        "listed": _LISTED_LAYERS,
        "names": [file.name for file in files],
        "rows": [
            (layer, [_bar(found.get(layer), most, layer in kept_float[name]) for name, found in snr.items()])
            for layer in ranking
        ],
        "in_float": [_in_float(file) for file in files],
    }


def _bar(value: float | None, most: float, in_float: bool) -> tuple[str, float | None]:
    """Return the text of a cell, and its bar's share of the widest."""
    if value is None:
        return "-", None
    return f"{'float, ' if in_float else ''}{value:.1f}", max(0.0, value) / max(most, 1e-9)


def _in_float(file: QuantizedFile) -> str:
    findings = file.findings
    layers = f" ({', '.join(findings.float_layers)})" if findings.float_layers else ""
    operators = f", and somewhere {', '.join(findings.float_operators)}" if findings.float_operators else ""
    more = f"  Its backend computed in float what the file has in 8 bits: {listed(file.unexpected_float, 3)}."
    return (
        f"{file.name}: {len(findings.float_layers)} of {file.layers} layers compute in float{layers}{operators}."
        f"{more if file.unexpected_float else ''}"
    )


def _costs(file: QuantizedFile) -> dict[str, object]:
    effects = file.findings.effects
    return {
        "file": file.name,
        "count": f"{min(len(effects), _LISTED_LAYERS)} worst of {len(effects)} layers",
        "effects": [
            (row.layer, f"{row.snr_db:.1f}", f"{row.drop:+.4f}", f"{row.agreement:.4f}")
            for row in effects[:_LISTED_LAYERS]
        ],
        "fallback": [(row.layer, f"{row.size / 1e3:+.0f}", f"{row.latency_ms:+.2f}") for row in file.findings.fallback],
    }


def _forms(file: QuantizedFile) -> dict[str, object]:
    return {
        "file": file.name,
        "rows": [
            (
                f"{trial.form}{' ✓' if trial.kept else ''}",
                f"{trial.latency_ms:.2f}",
                f"{trial.size / 1e6:.2f}",
                *(
                    "" if value is None else f"{value:.4f}"
                    for value in (trial.accuracy, trial.agreement, trial.p_value)
                ),
            )
            for trial in file.findings.forms
        ],
    }


def _layers(file: QuantizedFile) -> dict[str, object]:
    total = sum(row.time_ms for row in file.layer_times)
    return {
        "file": file.name,
        "head": ("layer", "computed by", "in", "ms", f"share of the {len(file.layer_times)} slowest"),
        "rows": [
            (row.layer, row.operator, row.kind, f"{row.time_ms:.3f}", f"{row.time_ms / max(total, 1e-9):.1%}")
            for row in file.layer_times[:_LISTED_LAYERS]
        ],
    }


def _origin(report: QuantizeReport) -> list[Row]:
    facts = {**machine_facts(), "onnx": version("onnx")}
    return [
        ("calibration set", f"{report.calibration_images} images, sha256 of the list {report.calibration_sha256}"),
        ("model.fp32.onnx", f"sha256 {report.sha256_fp32}"),
        *((file.path, f"sha256 {file.sha256}") for file in report.files),
        *((name, str(value)) for name, value in facts.items() if value is not None),
    ]
