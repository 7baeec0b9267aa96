"""The report of quantize() as one HTML page: what was tried, what was kept, and where accuracy is lost.

It has no scripts and loads nothing from another host.  Names of labels, layers and folders are the user's, so all text
is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from edgeclf_runtime.device.machine import machine_facts

from ..display.report import Html, escaped, paragraph, table
from ..evaluation.comparison import Comparison
from .histograms import Histogram
from .plots import draw_drops, draw_histograms
from .ranges import METHODS
from .report import QuantizedFile, QuantizeReport

_DRAWN_LAYERS = 6
_LISTED_LAYERS = 15
_SHOWN_LABELS = 20

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1120px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 1em 0; }
th, td { padding: 2px 9px; text-align: right; white-space: nowrap; vertical-align: top; border-bottom: 1px solid #ddd; }
th { border-bottom: 1px solid #888; }
th:first-child, td:first-child, .facts * { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tr:has(b) { font-weight: bold; } tbody + tbody { border-top: 2px solid #888; }
img { width: 100%; } svg.bar { width: 90px; height: 9px; margin-left: 6px; } svg.bar rect { fill: #4477aa; }
.note { color: #555; font-size: 13px; overflow-wrap: anywhere; }
@page { margin: 12mm; }
@media print { body { margin: 0; padding: 0; max-width: none; font-size: 10pt; } table, .note { font-size: 7pt; }
  th, td { padding: 1px 4px; } h2 { break-after: avoid; } tr, img { break-inside: avoid; } }
"""


def make_page(report: QuantizeReport, histograms: Mapping[str, Histogram]) -> str:
    """Return the page as HTML; histograms: of each layer's output, by the layer's name."""
    title = f"Quantization of {report.run}"
    sections = [_verdict(report), _doubts(report), _flavors(report)]
    if report.files:
        sections.append(_drops(report))
    noisy = [file for file in report.files if file.findings.noise]
    # The histograms are those of the last call's calibration set.
    drawn = [file for file in noisy if file in report.latest]
    if drawn:
        sections.append(_activations(drawn[0], histograms))
    if noisy:
        sections.append(_sensitivity(noisy))
    sections += [_costs(file) for file in report.files if file.findings.fallback]
    sections.append(_origin(report))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escaped(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escaped(title)}</h1>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def _verdict(report: QuantizeReport) -> str:
    files = report.files
    if not files:
        return paragraph(
            f"No file was written: no flavor passed on the {report.judged_images} labeled images with ranges from "
            f"{report.calibration_images} calibration images."
        )
    passed = [file.name for file in files if file.comparison.drop <= report.max_drop]
    least, most = (choose(files, key=lambda file: file.comparison.drop) for choose in (min, max))
    smallest = min(files, key=lambda file: file.size)
    back = "".join(
        f"; {file.name} with {len(file.findings.fallback)} of {file.layers} layers back in float"
        for file in files
        if file.findings.fallback
    )
    return paragraph(
        f"Ranges come from {report.calibration_images} calibration images; each file was compared with FP32 on the same "
        f"{report.judged_images} labeled images.  {len(passed)} of {len(files)} files lose at most the accepted "
        f"{report.max_drop:g} of FP32's accuracy of {report.accuracy_fp32:.4f} ({', '.join(passed)}{back}): the drop ranges "
        f"from {least.comparison.drop:+.4f} ({least.name}) to {most.comparison.drop:+.4f} ({most.name}).  The smallest file is "
        f"{smallest.name}, {smallest.size / 1e6:.1f} MB, {smallest.size / report.size_fp32:.1%} of FP32."
    )


def _doubts(report: QuantizeReport) -> str:
    """Return what did not pass, what is doubtful, and which files are of earlier calls; "" if there is nothing."""
    parts = [paragraph(f"Warning: {warning}.") for warning in report.warnings]
    if report.failed:
        rows = [(failed.name, failed.reason) for failed in report.failed]
        parts.append(table(["not written", "reason"], rows, name="facts"))
    earlier = [
        f"{file.name}: made by an earlier call, from {file.conditions.calibration_images} calibration images, and compared "
        f"with FP32 on {file.conditions.judged_images} images."
        for file in report.files
        if file not in report.latest
    ]
    return "\n".join([*parts, *(paragraph(text, "note") for text in earlier)])


def _flavors(report: QuantizeReport) -> str:
    head = (
        "file",
        "ranges",
        "size",
        "of FP32",
        "accuracy",
        "drop",
        "95 % interval",
        "p",
        "agreement",
        "divergence",
        "confidence",
    )
    fp32 = ("fp32", "", f"{report.size_fp32 / 1e6:.2f} MB", "100.0%", f"{report.accuracy_fp32:.4f}", *6 * [""])
    groups: list[list[tuple[str, ...]]] = [[(*fp32, f"{report.latency_fp32_ms:.2f}")]]
    groups += [_tried(file, report) for file in report.files]
    if one := report.baseline:
        groups.append(
            [(one.name, "(for comparison)", *_measured(one.comparison, one.size, report), f"{one.latency_ms:.2f}")]
        )
    return _section(
        "Every file and every range method",
        table((*head, "ms"), *groups),
        paragraph(
            "✓: kept.  Of the methods without a significant accuracy drop (p of at least 0.05), the one that diverges least "
            "from FP32 is kept; it was chosen on the images that it is measured on.  drop: FP32's accuracy minus the file's, "
            "negative if the file is right more often.  p: exact McNemar test, the probability of a difference at least as "
            "large if both were equally accurate.  agreement: share of images to which both give the same label.  "
            "divergence: Kullback-Leibler, of the file's probabilities from FP32's, in thousandths of a nat; it separates "
            "files whose agreement differs only by chance.  confidence: mean of the file's minus FP32's.  ms: median of one "
            "inference on this machine's CPU by ONNX Runtime, whatever the file is for; it says nothing about a GPU or a board.",
            "note",
        ),
    )


def _tried(file: QuantizedFile, report: QuantizeReport) -> list[tuple[str, ...]]:
    """Return a row for each method; the kept one has its time, and the number of layers back in float if there are any."""
    kept = (*_measured(file.comparison, file.size, report), f"{file.latency_ms:.2f}")
    rows = [
        (file.name, trial.method, *_measured(trial.comparison, trial.size, report), "")
        for trial in file.findings.trials
        if trial.method != file.findings.method or file.findings.fallback
    ]
    index = [trial.method for trial in file.findings.trials].index(file.findings.method) if file.findings.trials else 0
    added = f", layers in float: {len(file.findings.fallback)}" if file.findings.fallback else ""
    rows.insert(
        index + bool(added), (file.name, Html(f"<b>{escaped(f'{file.findings.method}{added} ✓'.strip())}</b>"), *kept)
    )
    return rows


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


def _drops(report: QuantizeReport) -> str:
    files = {file.name: file.comparison for file in report.files}
    every = [
        label
        for label in report.files[0].comparison.drop_by_label
        if all(label in f.drop_by_label for f in files.values())
    ]
    change = {label: max(abs(found.drop_by_label[label]) for found in files.values()) for label in every}
    most = sorted(every, key=lambda label: -change[label])[:_SHOWN_LABELS]
    labels = [label for label in every if label in most]
    rows = [(label, *(f"{found.drop_by_label[label]:+.4f}" for found in files.values())) for label in labels]
    which = "each label" if len(labels) == len(every) else f"the {len(labels)} of {len(every)} labels that change most"
    return _section(
        "Accuracy drop",
        _picture(draw_drops(files, labels, report.max_drop), "accuracy drop by file, and recall drop by label"),
        paragraph(f"Recall drop of {which}; if a label has few images, one image is a large share.", "note"),
        table(["label", *files], rows),
    )


def _activations(file: QuantizedFile, histograms: Mapping[str, Histogram]) -> str:
    layers = [row for row in file.findings.noise if row.layer in histograms][:_DRAWN_LAYERS]
    drawn = {row.layer: histograms[row.layer] for row in layers}
    ranges = {name: [find(histogram) for find in METHODS.values()] for name, histogram in drawn.items()}
    rows = [(name, *(f"{low:.4g} to {high:.4g}" for low, high in found)) for name, found in ranges.items()]
    return _section(
        f"Activations of the noisiest layers of {file.name}",
        _picture(draw_histograms(drawn, [f"{row.snr_db:.1f} dB" for row in layers]), "histograms of activations"),
        paragraph(
            f"How often each value occurred in the calibration images (a sample of each image's values; logarithmic), and the "
            f"range that INT8 covers; {file.findings.method} was kept.  Values outside are clipped.  Above each plot: the "
            "signal-to-noise ratio of the layer's output in the file.  A layer and the activation function after it share one range.",
            "note",
        ),
        table(["layer", *METHODS], rows),
    )


def _sensitivity(files: Sequence[QuantizedFile]) -> str:
    snr = {file.name: {row.layer: row.snr_db for row in file.findings.noise} for file in files}
    listed = {row.layer for file in files for row in file.findings.noise[:_LISTED_LAYERS]}
    ranking = sorted(listed, key=lambda layer: min(found[layer] for found in snr.values() if layer in found))
    most = max(found[layer] for found in snr.values() for layer in listed if layer in found)
    # The noise was measured while the layers of the fallback were still in INT8.
    kept_float = {
        file.name: {*file.findings.float_layers} - {row.layer for row in file.findings.fallback} for file in files
    }
    rows = [
        (layer, *(_bar(found.get(layer), most, layer in kept_float[name]) for name, found in snr.items()))
        for layer in ranking
    ]
    in_float = [
        paragraph(
            f"{file.name}: {len(file.findings.float_layers)} of {file.layers} layers compute in float"
            + (f" ({', '.join(file.findings.float_layers)})" if file.findings.float_layers else "")
            + (f", and somewhere {', '.join(file.findings.float_operators)}" if file.findings.float_operators else "")
            + ".",
            "note",
        )
        for file in files
    ]
    return _section(
        "Noise by layer",
        paragraph(
            f"Signal-to-noise ratio of each layer's output relative to FP32's, in decibels, with all layers before it in INT8 "
            f"too (20 dB: noise of one tenth); the {_LISTED_LAYERS} noisiest of each file, before any layer went back to float "
            "to make the file pass.  A longer bar means less noise.  float: the layer itself computes in float.  "
            "-: the file has no such output because the layer is fused with the next.",
            "note",
        ),
        table(["layer", *(file.name for file in files)], rows),
        *in_float,
    )


def _costs(file: QuantizedFile) -> str:
    effects = [
        (row.layer, f"{row.snr_db:.1f}", f"{row.drop:+.4f}", f"{row.agreement:.4f}")
        for row in file.findings.effects[:_LISTED_LAYERS]
    ]
    fallback = [(row.layer, f"{row.size / 1e3:+.0f}", f"{row.latency_ms:+.2f}") for row in file.findings.fallback]
    return _section(
        f"Layers that {file.name} needs in float",
        paragraph(
            f"{file.name} did not pass at once.  The effect on the logits of INT8 in one layer only, with all others in float: "
            f"the {len(effects)} worst of {len(file.findings.effects)} layers, on a few of the images.",
            "note",
        ),
        table(["INT8 alone", "logits, dB", "drop", "agreement"], effects),
        paragraph("Layers that went back to float to make the file pass, and what each added.", "note"),
        table(["back in float", "KB", "ms"], fallback),
    )


def _origin(report: QuantizeReport) -> str:
    facts = {**machine_facts(), "onnx": version("onnx")}
    rows = [
        ("calibration set", f"{report.calibration_images} images, sha256 of the list {report.calibration_sha256}"),
        ("model.fp32.onnx", f"sha256 {report.sha256_fp32}"),
        *((file.path, f"sha256 {file.sha256}") for file in report.files),
        *((name, value) for name, value in facts.items() if value is not None),
    ]
    return _section("How it was made", table(["what", "value"], rows, name="facts"))


def _bar(value: float | None, most: float, in_float: bool) -> str:
    if value is None:
        return "-"
    width = 100 * max(0.0, value) / max(most, 1e-9)
    return Html(
        f"{'float, ' if in_float else ''}{value:.1f}"
        f'<svg class="bar" viewBox="0 0 100 9" preserveAspectRatio="none"><rect width="{width:.0f}" height="9"/></svg>'
    )


def _picture(svg: str, meaning: str) -> str:
    # An image, not part of the page: nothing in it can run, and its identifiers are its own.
    data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{escaped(meaning)}">'


def _section(title: str, *parts: str) -> str:
    return f"<h2>{escaped(title)}</h2>\n" + "\n".join(parts)
