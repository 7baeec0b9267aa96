"""From a run's FP32 file to one smaller file for each family of backends, each held to FP32's accuracy.

The ranges of activations are collected once, on a calibration set out of train, and every
flavour is written from them: Q/DQ files by ONNX Runtime's quantizer (``flavors.py``), FP16
(``halving.py``), and TensorRT's calibration cache.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgeclf_runtime.files import claim_output, new_file, sha256_file

from .calibration import CalibrationSet
from .calibration_cache import format_cache
from .datasets import Dataset, Sample
from .errors import OptionError
from .exporting import save_model
from .flavors import write_flavor
from .gating import Comparison, compare, hold
from .halving import halve
from .judging import infer_file
from .models import model_metadata
from .ranges import collect_ranges, prepare
from .rounding import Rounding, collect_moments
from .runs import Run, read_run
from .targets import CALIBRATION_CACHE, FLAVORS, is_foreign

REPORT_FILE = "quantization.json"
JUDGES = 500
"""Images that tell a loss of one point from chance; training images fill up a smaller validation split."""


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantise."""

    calibration: str | None = None
    """A calibration set's folder; None selects images from the run's train split."""
    size: int = 300
    """Images to select where no set is given."""
    flavors: tuple[str, ...] = tuple(FLAVORS)
    """Which files to write, by their names in targets.FLAVORS."""
    max_drop: float = 0.01
    """Largest loss of accuracy against FP32, on the same images, that is accepted."""
    seed: int = 0
    """Changes which images are selected."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.flavors) - set(FLAVORS))
        if unknown or not self.flavors:
            raise OptionError(
                f"there is no flavor {', '.join(unknown) or '(none named)'}; there are {', '.join(FLAVORS)}"
            )
        if not 0 <= self.max_drop <= 1:
            raise OptionError(f"max-drop is {self.max_drop}; 0 to 1 was expected (0.01 is one point of accuracy)")


@dataclass(frozen=True)
class QuantizedFile(Comparison):
    """One file and how it compares with FP32 on the same images."""

    name: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class QuantizeReport:
    """What quantize() wrote."""

    run: str
    calibration_images: int
    calibration_sha256: str
    judged_images: int
    size_fp32: int
    files: tuple[QuantizedFile, ...]

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def __str__(self) -> str:
        lines = [
            f"{'file':<14}    size   of fp32  accuracy     drop (95 % interval)           largest of a label    agreement  confidence"
        ]
        lines += [self._line(file) for file in self.files]
        lines.append(f"against fp32 on {self.judged_images} images; {self.calibration_images} calibration images")
        return "\n".join(lines)

    def _line(self, file: QuantizedFile) -> str:
        low, high = file.drop_interval
        label = max(file.drop_by_label, key=lambda label: file.drop_by_label[label])
        return (
            f"{file.name:<14} {file.size / 1e6:4.1f} MB   {file.size / self.size_fp32:6.1%}    {file.accuracy:.4f}  "
            f"{file.drop:+.4f} ({low:+.4f} to {high:+.4f})  {file.drop_by_label[label]:+.4f} {label[:12]:<12}      "
            f"{file.agreement:.4f}     {file.confidence_shift:+.4f}"
        )


def quantize(run: str | Path | Run, options: QuantizeOptions | None = None, overwrite: bool = False) -> QuantizeReport:
    """Write a run's model.NAME.onnx for each flavour, calibration.cache and quantization.json.

    Raises GateError, exit code 3, where a file loses more than ``max_drop`` of accuracy on the
    validation images (filled up to JUDGES with training images that calibration did not see);
    no file is kept then.  Raises DataError for a calibration set whose
    files changed, and OutputError where a file is there already and ``overwrite`` is not given.
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
    judges = _judges(dataset, calibration)
    truth = np.array([dataset.index(sample) for sample in judges])
    paths = [sample.path for sample in judges]
    reference = infer_file(source, paths, run.preprocessing, "judging fp32")
    batches = calibration.batches(run.preprocessing)
    graph = prepare(source)
    ranges = collect_ranges(graph, batches)
    rounding = Rounding(graph, collect_moments(graph, batches))
    files = []
    # Every file is renamed at the end, or none.
    with ExitStack() as stack:
        for name, target in targets.items():
            work = Path(stack.enter_context(new_file(target, overwrite)))
            flavor = FLAVORS[name]
            model = write_flavor(graph, flavor, ranges, rounding) if flavor.activations else halve(graph, ranges)
            save_model(model, work, model_metadata(run, name))
            found = infer_file(work, paths, run.preprocessing, f"judging {name}", is_foreign(name))
            comparison = compare(run.labels, truth, reference, found)
            hold(name, comparison, found, options.max_drop)
            facts = {"name": name, "path": str(target), "size": work.stat().st_size, "sha256": sha256_file(work)}
            files.append(QuantizedFile(**vars(comparison), **facts))
        report = QuantizeReport(
            str(run.path), len(calibration), calibration.sha256, len(truth), source.stat().st_size, tuple(files)
        )
        texts = {
            CALIBRATION_CACHE: format_cache(ranges),
            REPORT_FILE: json.dumps(asdict(report), indent=1) + "\n",
        }
        for name, text in texts.items():
            Path(stack.enter_context(new_file(run.path / name, overwrite=True))).write_text(text, encoding="utf-8")
    return report


def _calibration_set(dataset: Dataset, options: QuantizeOptions) -> CalibrationSet:
    if options.calibration:
        calibration = CalibrationSet.load(options.calibration).refuse_held_out(dataset)
    else:
        calibration = CalibrationSet.select(dataset, options.size, options.seed).verify()
    return calibration.warn_if_few()


def _judges(dataset: Dataset, calibration: CalibrationSet) -> list[Sample]:
    """Return the images on which INT8 is held to FP32: val, and as many of train, outside the calibration set, as are wanting."""
    calibrated = set(calibration.paths)
    spare = [sample for sample in dataset.split("train") if sample.path not in calibrated]
    by_hash = sorted(zip(dataset.sha256(spare), spare, strict=True), key=lambda pair: pair[0])
    validation = dataset.split("val")
    return validation + [sample for _, sample in by_hash[: max(0, JUDGES - len(validation))]]
