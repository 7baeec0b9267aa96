"""The report of quantize(): a table for people, JSON for machines, and read back from that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime.files.read import read_json
from edgeclf_runtime.files.schema import JsonObject

from ..data.schemas import MAX_JSON_BYTES, QUANTIZATION
from ..display.report import Report, listed, ms_text, paragraph, table
from ..errors import GateError
from ..evaluation.accuracy_gate import ADVICE
from ..evaluation.comparison import Comparison
from ..targets import TARGETS
from .finetune.record import Finetuning
from .report_json import flat, restore
from .sensitivity import LayerEffect, LayerNoise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLOWER = 1.1
"""A file that takes this many times as long as FP32 is slower; less is noise."""
REPORT_FILE = "quantization.json"
REPORT_PAGE = "quantization.html"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One range method tried for one flavor, compared with FP32."""

    comparison: Comparison
    method: str
    size: int
    form: str = ""
    """The form, which decides what computes in 8 bits; a name in graph/int8/forms.py."""
    images: int = 0
    """Number of evaluation images that it was compared on, if these decided for another method; 0: all."""


@dataclass(frozen=True, kw_only=True)
class FormTrial:
    """One form of a file, timed on this machine by the backend that the file is for."""

    form: str
    """By its name in graph/int8/forms.py."""
    latency_ms: float
    size: int
    accuracy: float | None = None
    """None if it was not evaluated, since it is no faster than the one that was kept."""
    agreement: float | None = None
    p_value: float | None = None
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """Time of one layer as its backend computes it, on this machine."""

    layer: str
    operator: str
    """The backend's own name of it, such as QLinearConv."""
    kind: str
    """int8, float, or convert for a change between the two."""
    time_ms: float


@dataclass(frozen=True, kw_only=True)
class FloatLayer:
    """A layer that went back to float so that the file passes, and what that costs."""

    layer: str
    size: int
    """Bytes added to the file."""
    latency_ms: float
    """Time added to an inference on this machine; negative: saved."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The result of the search for a file."""

    method: str = ""
    """Range method, by its name in ranges.METHODS; "" for a file without Q/DQ."""
    trials: tuple[Trial, ...] = ()
    """Every method that was tried."""
    form: str = ""
    """The form, which decides what computes in 8 bits; a name in graph/int8/forms.py, "" for a file without Q/DQ."""
    forms: tuple[FormTrial, ...] = ()
    """Every form that was timed, fastest first; () if none was."""
    float_layers: tuple[str, ...] = ()
    """Convolutions and matrix products that compute in float."""
    float_operators: tuple[str, ...] = ()
    """Other operators that compute in float somewhere."""
    fallback: tuple[FloatLayer, ...] = ()
    """Those of float_layers without which the file would not pass."""
    noise: tuple[LayerNoise, ...] = ()
    effects: tuple[LayerEffect, ...] = ()
    """Measured if the file did not pass at once."""
    finetuning: Finetuning | None = None
    """None if its weights were not fine-tuned."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The images that a flavor was made from and compared on."""

    calibration_images: int
    calibration_sha256: str
    judged_images: int
    """Evaluation images."""
    trained_images: int
    """The number of them that were trained on."""
    options: JsonObject
    """calibration, size, method, max_drop and seed, as given to quantize()."""


@dataclass(frozen=True, kw_only=True)
class FailedFlavor:
    """A flavor that did not pass the accuracy gate, so that no file of it was written."""

    name: str
    reason: str
    conditions: Conditions
    finetuning: Finetuning | None = None


@dataclass(frozen=True, kw_only=True)
class QuantizedFile:
    """One file, compared with FP32 on the same images."""

    comparison: Comparison
    findings: Findings
    name: str
    path: str
    size: int
    sha256: str
    latency_ms: float
    """Median of one inference on this machine's CPU: by ONNX Runtime, or by OpenVINO if only OpenVINO runs the file."""
    fp32_ms: float | None = None
    """FP32's median, timed in turns with this file; None if the file is for another machine, or its backend is not here."""
    layers: int = 0
    """Convolutions and matrix products."""
    layer_times: tuple[LayerTime, ...] = ()
    """The slowest layers, slowest first; () for a file of another machine's backends."""
    unexpected_float: tuple[str, ...] = ()
    """Layers that the file has in 8 bits and its backend computed in float, on this machine."""
    conditions: Conditions

    @property
    def own_ms(self) -> float | None:
        """Its time, if this machine and a backend here are what it is for; None otherwise, where a time says nothing."""
        return None if self.fp32_ms is None else self.latency_ms

    @property
    def slower(self) -> bool:
        """True if it was slower than FP32, on a machine and a backend that it is for."""
        return self.fp32_ms is not None and self.latency_ms > SLOWER * self.fp32_ms


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A way of quantizing that is not shipped, for comparison."""

    comparison: Comparison
    name: str
    size: int
    latency_ms: float

    @property
    def own_ms(self) -> float:
        """Its time; this machine is what it is for."""
        return self.latency_ms


@dataclass(frozen=True, kw_only=True)
class QuantizeReport(Report):
    """The files that quantize() wrote, and those of earlier calls."""

    run: str
    calibration_images: int
    calibration_sha256: str
    judged_images: int
    """Evaluation images."""
    max_drop: float
    """Largest accuracy drop that was accepted."""
    accuracy_fp32: float
    size_fp32: int
    sha256_fp32: str
    latency_fp32_ms: float
    files: tuple[QuantizedFile, ...]
    baseline: Baseline | None = None
    failed: tuple[FailedFlavor, ...] = ()
    warnings: tuple[str, ...] = ()
    gone: int = 0
    """The run's images that were not there any more."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""

    def to_dict(self) -> JsonObject:
        """The report as a JSON-compatible dict, in the form of quantization.json."""
        facts: JsonObject = flat(self)
        return facts

    def plot(self) -> Figure:
        """Return each file's accuracy drop, size and latency as a matplotlib figure.

        Raises DependencyError if matplotlib is missing.
        """
        from .plots import draw_files

        return draw_files(self)

    def html_parts(self) -> Iterator[str]:
        """Yield a table of the files beside FP32, and what is notable about them."""
        head = ("file", "size", "of fp32", "accuracy", "drop", "95 % interval", "ms", "ranges")
        fp32 = (f"{self.size_fp32 / 1e6:.1f} MB", "100.0%", f"{self.accuracy_fp32:.4f}", "", "")
        rows = [("fp32", *fp32, f"{self.latency_fp32_ms:.1f}", "")]
        for file in self.compared:
            found = file.comparison
            low, high = found.drop_interval
            size = (f"{file.size / 1e6:.1f} MB", f"{file.size / self.size_fp32:.1%}")
            accuracy = (f"{found.accuracy:.4f}", f"{found.drop:+.4f}", f"{low:+.3f} to {high:+.3f}")
            rows.append((file.name, *size, *accuracy, ms_text(file.own_ms, 1), _ranges(file)))
        yield table(head, rows)
        yield from map(paragraph, (*self._facts(), *(f"warning: {text}" for text in self.warnings)))

    def __str__(self) -> str:
        return "\n".join([*self._table(), *self._facts()])

    def _table(self) -> Iterator[str]:
        """Yield the table's lines, 80 columns wide."""
        yield f"{'file':<13}    MB of fp32 accuracy  drop (95 % interval){'':12}ms ranges"
        size = f"{self.size_fp32 / 1e6:5.1f} {1:6.1%}"
        yield f"{'fp32':<13} {size}  {self.accuracy_fp32:.4f}{'':29}{self.latency_fp32_ms:6.1f}"
        for file in self.compared:
            yield self._line(file)

    def _line(self, file: QuantizedFile | Baseline) -> str:
        found, ranges = file.comparison, _ranges(file)
        low, high = found.drop_interval
        return (
            f"{file.name:<13} {file.size / 1e6:5.1f} {file.size / self.size_fp32:6.1%}  {found.accuracy:.4f}  "
            f"{found.drop:+.4f} ({low:+.3f} to {high:+.3f}) {ms_text(file.own_ms, 1):>6} {ranges}"
        ).rstrip()

    def _facts(self) -> Iterator[str]:
        trained = sum(one.conditions.trained_images for one in self.latest[:1])
        seen = f" ({trained} of them trained on)" if trained else ""
        yield f"compared with fp32 on {self.judged_images} images{seen}; {self.calibration_images} calibration images"
        if any(file.own_ms is None for file in self.compared):
            yield "ms: one image on this machine; -: the file is for other machines or backends"
        if self.gone or self.unreadable:
            counts = {"of the run's images that are gone": self.gone, "that cannot be decoded": self.unreadable}
            yield "left out: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        for file in self.files:
            drops = file.comparison.drop_by_label
            label = max(drops, key=lambda label: drops[label])
            yield (
                f"{file.name}: same label as fp32 for {file.comparison.agreement:.2%} of the images; "
                f"largest recall drop {drops[label]:+.4f} ({label})"
            )
            if file not in self.latest:
                found = file.conditions
                yield (
                    f"{file.name}: of an earlier call, compared on {found.judged_images} images; "
                    f"{found.calibration_images} calibration images"
                )
            if file.findings.fallback:
                costs = ", ".join(
                    f"{row.layer} ({row.size / 1e3:+.0f} KB, {row.latency_ms:+.2f} ms)"
                    for row in file.findings.fallback
                )
                yield f"{file.name}: back to float so that it passes: {costs}"
            if file.findings.finetuning:
                yield f"{file.name}: {file.findings.finetuning}"
            if file.unexpected_float:
                yield f"{file.name}: in 8 bits in the file, but computed in float here: {listed(file.unexpected_float, 3)}"
            if file.slower:
                yield (
                    f"{file.name}: slower than fp32 on this machine ({file.latency_ms:.1f} ms against "
                    f"{file.fp32_ms:.1f}); a bundle tries fp32 before it, and the first start on a device measures both"
                )
            if len(file.findings.forms) > 1:
                yield f"{file.name}: of {len(file.findings.forms)} forms {file.findings.form} is kept: {_times(file)}"
        for failed in self.failed:
            yield f"{failed.name}: not written; {failed.reason}"
            if failed.finetuning:
                yield f"{failed.name}: {failed.finetuning}"

    @property
    def compared(self) -> list[QuantizedFile | Baseline]:
        """The files, and the baseline if it was measured."""
        return [*self.files, *([self.baseline] if self.baseline else [])]

    @property
    def latest(self) -> list[QuantizedFile | FailedFlavor]:
        """The files that were made from the calibration set of the report."""
        found = (self.calibration_sha256, self.judged_images)
        every: list[QuantizedFile | FailedFlavor] = [*self.files, *self.failed]
        return [one for one in every if (one.conditions.calibration_sha256, one.conditions.judged_images) == found]


def _times(file: QuantizedFile) -> str:
    kept = next((trial.latency_ms for trial in file.findings.forms if trial.kept), 0.0)
    words = []
    for trial in file.findings.forms:
        refused = trial.accuracy is not None and trial.latency_ms < kept
        words.append(f"{trial.form} {trial.latency_ms:.2f} ms{' (accuracy in doubt)' if refused else ''}")
    return ", ".join(words)


def _ranges(file: QuantizedFile | Baseline) -> str:
    return file.findings.method if isinstance(file, QuantizedFile) else "baseline"


class FlavorError(GateError):
    """Flavors that were asked for did not pass the accuracy gate; ``report`` has what was written all the same.

    targets: those that were asked for, and so their flavors.
    """

    def __init__(self, report: QuantizeReport, names: tuple[str, ...], targets: Iterable[str] = ()) -> None:
        reasons = [failed.reason for failed in report.failed if failed.name in names]
        lacking = [target for target in targets if not set(names).isdisjoint(TARGETS[target].models)]
        needed = f", which {listed(lacking)} would use" if lacking else ""
        super().__init__("; ".join([*reasons, f"no file of {', '.join(names)} was written{needed}: {ADVICE}"]))
        self.report = report
        self.names = names


def read_report(folder: Path) -> QuantizeReport | None:
    """Return the report in a run's folder, None if there is none; ValueError if it is damaged or of an older version."""
    facts = read_report_facts(folder)
    report: QuantizeReport | None = restore(QuantizeReport, facts) if facts else None
    return report


def read_report_facts(folder: Path) -> JsonObject:
    """Return the quantization.json in a run's folder, {} if there is none; OSError or ValueError if it is damaged."""
    if not (folder / REPORT_FILE).is_file():
        return {}
    facts: JsonObject = read_json(folder / REPORT_FILE, MAX_JSON_BYTES)
    QUANTIZATION(facts, "")
    return facts
