"""Exports a run's network in several formats, each loaded back by its own runtime, compared with torch and timed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.device.machine import inference_threads, processor
from edgeclf_runtime.files.outputs import claim_output, named_by, new_file, new_folder
from edgeclf_runtime.runners.base import Runner, brief
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

from ...data.temporary import is_full
from ...display.progress import say
from ...display.report import Report
from ...errors import GateError, ModelError, OutputError
from ...evaluation.export import checked_difference, comparison_images
from ...evaluation.open_model import TorchRunner
from ...options import ExportOptions, merged
from ...targets import model_file
from ...training.machine.threads import torch_threads
from ...training.runs import Run, read_run
from .base import Format, Source, quiet
from .golden_tensors import GOLDEN, write_golden_tensors
from .table import FORMATS, module_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROUNDS, _WARMUPS, _TIMED = 7, 2, 5
_LONGEST_S = 20.0
"""Time after which no other round of measuring begins; there are two at least."""


@dataclass(frozen=True)
class FormatRow:
    """One format of an export."""

    format: str
    path: str
    size: int = 0
    batch: str = "any"
    """Number of images that it takes at once: "any" or "1"."""
    runtime: str = ""
    """The library that loaded it back, with its version."""
    largest_difference: float | None = None
    """Largest difference of a logit from the reference; None if it was not run."""
    latency_ms: float | None = None
    """Median time of one image; None if it was not run."""
    note: str = ""
    """The check that was made instead, if the file was not run."""
    problem: str = ""
    """The reason why it was not kept; "" if it was."""


@dataclass(frozen=True)
class FormatsReport(Report):
    """The result for each format."""

    run: str
    reference: str
    """The library whose logits are the reference: "torch", or "onnxruntime" for an imported run."""
    reference_ms: float
    images: int
    """Images on which they were compared."""
    noise: bool
    """True if these are random pixels, because the run's images are not here."""
    threads: int
    timed: int
    """Inferences of each format that its latency is the median of; formats take turns."""
    processor: str
    rows: tuple[FormatRow, ...]
    golden: str = ""
    """The folder of golden tensors, if they were requested."""

    def plot(self) -> Figure:
        """Return each format's latency and size beside the reference's as a matplotlib figure.

        Raises DependencyError if matplotlib is missing.
        """
        from ..plots import draw_formats

        return draw_formats(self)

    def __str__(self) -> str:
        lines = [f"{'format':<12} {'MB':>6} {'batch':>5} {'differs':>8} {'ms':>7}  file"]
        lines.append(f"{self.reference:<12} {'':>6} {'any':>5} {'':>8} {self.reference_ms:>7.2f}  the run's network")
        for row in self.rows:
            if not row.problem:
                lines.append(_line(row))
        lines += [f"{row.format}: {row.problem or row.note}" for row in self.rows if row.problem or row.note]
        where = "random pixels" if self.noise else "images"
        lines += [
            f"logits compared with {self.reference}'s on {self.images} {where}",
            f"medians of {self.timed}, one image, {self.threads} thread{'s' * (self.threads > 1)}, interleaved,",
            f"on {self.processor}",
        ]
        lines += [f"golden tensors: {self.golden}"] if self.golden else []
        return "\n".join(lines)


def _line(row: FormatRow) -> str:
    difference = "" if row.largest_difference is None else f"{row.largest_difference:.1e}"
    latency = "" if row.latency_ms is None else f"{row.latency_ms:.2f}"
    name = Path(row.path).name
    return f"{row.format:<12} {row.size / 1e6:>6.1f} {row.batch:>5} {difference:>8} {latency:>7}  {name}, {row.runtime}"


class FormatsError(GateError):
    """Formats were not kept; ``report`` has the others."""

    def __init__(self, report: FormatsReport, code: int) -> None:
        failed = [row for row in report.rows if row.problem]
        super().__init__("; ".join(f"{row.format}: {row.problem}" for row in failed))
        self.report = report
        self.exit_code = code


def export_formats(
    run: str | Path | Run,
    output: str | Path | None = None,
    options: ExportOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> FormatsReport:
    """Write a run's network in formats of other runtimes, and compare each with torch on real images.

    output: the file of a single format, or the folder of several; None means the run.

    Raises DependencyError, before anything is written, if a library is missing; FormatsError, after the others were written,
    if a format could not be, or if a logit differs by more than ``evaluation.export.TOLERANCE`` and rounding.
    """
    options = merged(ExportOptions, options, keywords)
    if not isinstance(run, Run):
        run = read_run(run)
    chosen = [FORMATS[name] for name in options.formats or ("onnx",)]
    paths = _paths(run, chosen, output)
    _claim(chosen, paths, options.golden, overwrite)
    data = run.dataset(options.data) if options.data or options.golden else run.images_here()
    batches, noise = comparison_images(data, run.preprocessing)
    source, threads = Source(run), inference_threads()
    with contextlib.ExitStack() as opened:
        opened.enter_context(torch_threads(threads))
        reference = opened.enter_context(_reference(source, threads))
        compared = _Compared(batches, np.concatenate([reference.infer(batch) for batch in batches]), threads)
        rows: list[FormatRow] = []
        codes: list[int] = []
        runners = {"": reference}
        for number, one in enumerate(chosen, 1):
            say(f"writing {one.name}, {number} of {len(chosen)}")
            row, found = _export(one, source, paths[one.name], overwrite, compared)
            rows.append(row)
            if isinstance(found, Runner):
                runners[one.name] = opened.enter_context(found)
            elif found is not None:
                codes.append(found.exit_code)
        times, timed = _latencies(runners, batches)
        if options.golden and data is not None:
            write_golden_tensors(options.golden, run, data, reference, overwrite, options.skip_unreadable)
    report = FormatsReport(
        run=str(run.path),
        reference=reference.backend,
        reference_ms=times[""],
        images=len(batches),
        noise=noise,
        threads=threads,
        timed=timed,
        processor=processor(),
        rows=tuple(replace(row, latency_ms=times.get(row.format)) for row in rows),
        golden=str(options.golden or ""),
    )
    if codes:
        raise FormatsError(report, max(codes))
    return report


def _claim(chosen: Sequence[Format], paths: Mapping[str, Path], golden: str | None, overwrite: bool) -> None:
    """Raise OutputError for an output that cannot be written, and DependencyError for a format whose library is missing."""
    for one in chosen:
        one.check()
        claim_output(paths[one.name], overwrite, one.marker or None)
    if golden:
        with named_by("--golden"):
            claim_output(golden, overwrite, GOLDEN)


def _paths(run: Run, chosen: Sequence[Format], output: str | Path | None) -> dict[str, Path]:
    """Return where each format is written."""
    if output is None or len(chosen) > 1:
        folder = run.path if output is None else Path(output)
        return {one.name: folder / one.file for one in chosen}
    return {chosen[0].name: Path(output)}


def _reference(source: Source, threads: int) -> Runner:
    """Return torch, or ONNX Runtime for a run that has no torch network."""
    if source.run.imported:
        return OnnxRuntimeRunner(source.run.file(model_file("fp32")), threads)
    return TorchRunner(source.network)


@dataclass(frozen=True)
class _Compared:
    """The logits that each format is compared with."""

    batches: list[np.ndarray]
    expected: np.ndarray
    threads: int

    def batches_of(self, size: str) -> list[np.ndarray]:
        """Return the images one by one, or the first and then all others at once for a file that takes "any" number."""
        first, others = self.batches[0], self.batches[1:]
        return [first, np.concatenate(others)] if size == "any" and others else self.batches


def _export(
    one: Format, source: Source, path: Path, overwrite: bool, compared: _Compared
) -> tuple[FormatRow, Runner | GateError | ModelError | None]:
    """Write one format and compare it; with the row, return the file on its runtime, if it runs here, or why it was not kept."""
    row = FormatRow(one.name, str(path), batch="1" if source.fixed else one.batch)
    runner: Runner | str = ""
    try:
        with _new_output(path, one, overwrite) as work, _converting(one, path):
            module_of(one).write(source, work)
            runner = module_of(one).load(work, compared.threads)
            row = replace(row, size=_size(work), runtime=f"{one.runtime} {one.version}")
            if isinstance(runner, str):
                return replace(row, note=runner), None
            network = None if source.run.imported else source.network
            difference = checked_difference(runner, compared.batches_of(row.batch), compared.expected, network)
            return replace(row, largest_difference=difference), runner
    except (GateError, ModelError) as error:
        if isinstance(runner, Runner):
            runner.close()
        return replace(row, size=0, runtime="", problem=str(error)), error


@contextlib.contextmanager
def _new_output(path: Path, one: Format, overwrite: bool) -> Iterator[Path]:
    """Yield where to write a file, or the files of a folder."""
    made = new_folder(path, overwrite, one.marker) if one.marker else new_file(path, overwrite)
    with made as work:
        yield Path(work)


@contextlib.contextmanager
def _converting(one: Format, path: Path) -> Iterator[None]:
    """Silence a converter, and turn anything that it raises into a ModelError with the versions; OutputError for a full disk."""
    try:
        with quiet():
            yield
    except (GateError, ModelError, OutputError):
        raise
    except Exception as error:  # each converter has its own
        if is_full(path.absolute().parent):
            raise OutputError(
                f"{path} cannot be written (its disk is full): free some space, or choose another --output"
            ) from None
        raise ModelError(
            f"the format {one.name} cannot be written of this network ({brief(error)}); {one.versions()}"
        ) from None


def _size(path: Path) -> int:
    """Return the bytes of a file, or of the files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _latencies(runners: Mapping[str, Runner], batches: Sequence[np.ndarray]) -> tuple[dict[str, float], int]:
    """Return the median time of one image of each runner, in milliseconds, and how many were timed.

    They take turns, so that all of them see the same disturbances; after a change, a library's threads wake up first.
    """
    times: dict[str, list[float]] = {name: [] for name in runners}
    began = time.monotonic()
    say("measuring latency")
    for turn in range(_ROUNDS):
        if turn >= 2 and time.monotonic() - began > _LONGEST_S:
            break
        batch = batches[turn % len(batches)]
        for name, runner in runners.items():
            for number in range(_WARMUPS + _TIMED):
                start = time.perf_counter()
                runner.infer(batch)
                if number >= _WARMUPS:
                    times[name].append((time.perf_counter() - start) * 1e3)
    return {name: median(found) for name, found in times.items()}, len(times[""])
