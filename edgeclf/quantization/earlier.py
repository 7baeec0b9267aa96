"""Files of earlier calls of quantize(): what is made again, what others are made from, and what the report still says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.outputs import claim_output
from edgeclf_runtime.files.read import sha256_file

from ..display.progress import say
from ..errors import OutputError
from ..graph.onnx_file import without_features
from ..options import QuantizeOptions
from ..targets import CALIBRATION_CACHE, FLAVORS, model_file
from .candidate import Candidate
from .report import REPORT_FILE, QuantizedFile, QuantizeReport, read_report


def earlier_report(source: Path) -> QuantizeReport | None:
    """Return the report beside the FP32 file with the files that are still there, None unless they are of this file."""
    try:
        report = read_report(source.parent)
    except (OSError, ValueError) as error:
        say(f"{source.parent / REPORT_FILE} is ignored ({error})")
        return None
    if report is None or report.sha256_fp32 != sha256_file(source):
        return None
    return replace(report, files=tuple(file for file in report.files if _is_current(source.parent, file)))


def _is_current(folder: Path, file: QuantizedFile) -> bool:
    """Return whether a folder still has the file that its report describes."""
    path = folder / model_file(file.name)
    return path.is_file() and sha256_file(path) == file.sha256


def claim_names(folder: Path, options: QuantizeOptions, earlier: QuantizeReport | None, overwrite: bool) -> list[str]:
    """Return the flavors to make; OutputError if a file of one exists that may not be replaced.

    To fine-tune, these are the flavors that need layers in float, or have no file.
    """
    kept = {file.name for file in earlier.files} if earlier else set()
    names = list(options.wanted)
    if options.finetune_int8 and earlier and not (options.flavors and overwrite):
        done = {file.name for file in earlier.files if not file.findings.fallback}
        for name in done.intersection(names):
            say(f"{name} already passes with every layer in INT8, and is left unchanged")
        names = [name for name in names if name not in done]
    elif not options.flavors and not overwrite:
        names = [name for name in names if name not in kept] or names
    paths = [folder / model_file(name) for name in names]
    for path in paths if earlier else [*paths, folder / CALIBRATION_CACHE]:
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists: pass --overwrite to make it again")
        claim_output(path, overwrite)
    return names


def bases_of(
    folder: Path, earlier: QuantizeReport | None, names: Sequence[str], calibration_sha256: str
) -> dict[str, Candidate]:
    """Return the files of an earlier call from which a flavor in ``names`` is made, and which are not made again."""
    import onnx

    bases = {FLAVORS[name].half_of for name in names} - set(names)
    return {
        file.name: Candidate(
            model=without_features(onnx.load(folder / model_file(file.name))),
            logits=np.zeros((0, 0), np.float32),  # only the model and its findings are used
            comparison=file.comparison,
            findings=file.findings,
        )
        for file in (earlier.files if earlier else ())
        if file.name in bases and file.conditions.calibration_sha256 == calibration_sha256
    }


def with_earlier(report: QuantizeReport, earlier: QuantizeReport | None) -> QuantizeReport:
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
