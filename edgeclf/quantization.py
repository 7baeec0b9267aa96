"""From a run's FP32 file to INT8 files, one for each family of backends, each held to FP32's accuracy.

The ranges of activations are collected once, on a calibration set out of train, and every
flavour is written from them by ONNX Runtime's quantizer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.files import claim_output, new_file, sha256_file

from .calibration import FEW_IMAGES, CalibrationSet
from .datasets import Dataset, Sample
from .errors import GateError, OptionError
from .evaluation import infer_samples
from .exporting import save_model
from .models import model_metadata, open_model
from .reporting import say, track
from .rounding import collect_moments, round_model
from .runs import Run, read_run
from .targets import FLAVORS, Flavor

REPORT_FILE = "quantization.json"
_FEW_CHANNELS = 16
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
class QuantizedFile:
    """One INT8 file and how it compares with FP32 on the same images."""

    name: str
    path: str
    size: int
    sha256: str
    accuracy: float
    accuracy_fp32: float
    agreement: float
    """Share of images that get the same label from both."""


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
            f"{'file':<14}   size   of fp32  accuracy    drop  agreement   ({self.judged_images} images judged, {self.calibration_images} calibration)"
        ]
        for file in self.files:
            lines.append(
                f"{file.name:<14} {file.size / 1e6:4.1f} MB  {file.size / self.size_fp32:6.1%}   {file.accuracy:.4f}  "
                f"{file.accuracy_fp32 - file.accuracy:+.4f}    {file.agreement:.4f}"
            )
        return "\n".join(lines)


def quantize(run: str | Path | Run, options: QuantizeOptions | None = None, overwrite: bool = False) -> QuantizeReport:
    """Write a run's INT8 files, model.NAME.onnx for each flavour, and quantization.json.

    Raises GateError, exit code 3, where a file loses more than ``max_drop`` of accuracy on the
    validation images (filled up to JUDGES with training images that calibration did not see);
    that file is not kept.  Raises DataError for a calibration set whose
    files changed, and OutputError where a file is there already and ``overwrite`` is not given.
    """
    if not isinstance(run, Run):
        run = read_run(run)
    options = options or QuantizeOptions()
    source = run.file("model.fp32.onnx")
    targets = {name: run.path / f"model.{name}.onnx" for name in options.flavors}
    for target in targets.values():
        claim_output(target, overwrite)
    dataset = run.dataset()
    calibration = _calibration_set(dataset, options)
    judges = _judges(dataset, calibration)
    truth = np.array([dataset.index(sample) for sample in judges])
    reference = _predict(source, judges, "judging fp32")
    graph, ranges, moments = _look_at_activations(source, calibration.batches(run.preprocessing))
    files = []
    for name, target in targets.items():
        with new_file(target, overwrite) as work:
            save_model(write_flavor(graph, FLAVORS[name], ranges, moments), work, model_metadata(run, name))
            predicted = _predict(Path(work), judges, f"judging {name}")
            files.append(_compare(name, target, Path(work), truth, reference, predicted, options.max_drop))
    report = QuantizeReport(
        str(run.path), len(calibration), calibration.sha256, len(truth), source.stat().st_size, tuple(files)
    )
    with new_file(run.path / REPORT_FILE, overwrite=True) as work:
        Path(work).write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    return report


def _calibration_set(dataset: Dataset, options: QuantizeOptions) -> CalibrationSet:
    if options.calibration:
        calibration = CalibrationSet.load(options.calibration).refuse_held_out(dataset)
    else:
        calibration = CalibrationSet.select(dataset, options.size, options.seed).verify()
    if len(calibration) < FEW_IMAGES:
        say(f"warning: {len(calibration)} calibration images are few; {FEW_IMAGES} or more are usual")
    return calibration


def _judges(dataset: Dataset, calibration: CalibrationSet) -> list[Sample]:
    """Return the images on which INT8 is held to FP32: val, and as many of train, outside the calibration set, as are wanting."""
    calibrated = set(calibration.paths)
    spare = [sample for sample in dataset.split("train") if sample.path not in calibrated]
    by_hash = sorted(zip(dataset.sha256(spare), spare, strict=True), key=lambda pair: pair[0])
    validation = dataset.split("val")
    return validation + [sample for _, sample in by_hash[: max(0, JUDGES - len(validation))]]


def _predict(model: Path, samples: list[Sample], what: str) -> np.ndarray:
    """Return the predicted labels' places, int [samples]."""
    with open_model(model) as opened:
        return infer_samples(opened, samples, what).argmax(1)


def _look_at_activations(source: Path, batches: Sequence[np.ndarray]) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Return the model with inferred shapes, its activations' ranges and its convolutions' moments."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        prepared = _prepare(source, Path(folder) / "prepared.onnx")
        graph = onnx.load(prepared)
        ranges = collect_ranges(prepared, batches)
    return graph, ranges, collect_moments(graph, batches)


def _compare(
    name: str,
    target: Path,
    work: Path,
    truth: np.ndarray,
    reference: np.ndarray,
    predicted: np.ndarray,
    max_drop: float,
) -> QuantizedFile:
    accuracy_fp32, accuracy = float((reference == truth).mean()), float((predicted == truth).mean())
    if accuracy_fp32 - accuracy > max_drop:
        raise GateError(
            f"{name} has an accuracy of {accuracy:.4f} on {len(truth)} images and fp32 {accuracy_fp32:.4f}: "
            f"a loss of {accuracy_fp32 - accuracy:.4f}, where at most {max_drop} was accepted.  The file was not kept; "
            "try more calibration images (--size), or accept more (--max-drop)"
        )
    return QuantizedFile(
        name=name,
        path=str(target),
        size=work.stat().st_size,
        sha256=sha256_file(work),
        accuracy=accuracy,
        accuracy_fp32=accuracy_fp32,
        agreement=float((predicted == reference).mean()),
    )


def collect_ranges(model: Path, batches: Sequence[np.ndarray]) -> Any:
    """Return the smallest and largest value of every activation over the images (ONNX Runtime's TensorsData)."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(track(batches, "calibrating", len(batches)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"image": batch}

    calibrator = create_calibrator(
        model,
        augmented_model_path=str(model.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"max_intermediate_outputs": 64},
    )
    calibrator.collect_data(Reader())
    return calibrator.compute_data()


def write_flavor(model: Any, flavor: Flavor, ranges: Any, moments: dict[str, np.ndarray]) -> Any:
    """Return the Q/DQ form (onnx.ModelProto) of a prepared FP32 model for one family of backends.

    ranges, moments: as :func:`collect_ranges` and ``rounding.collect_moments`` return them.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType[flavor.weights],
        activation_qType=QuantType[flavor.activations],
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=_float_nodes(model),
        op_types_to_quantize=sorted(set(QDQRegistry) | set(QLinearOpsRegistry)),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized = quantizer.model.model
    round_model(quantized, model, moments)
    del quantized.graph.value_info[:]
    _drop_unused_constants(quantized.graph)
    return quantized


def _drop_unused_constants(graph: Any) -> None:
    """Remove what nothing reads any more, such as the bounds of a Clip that its Q/DQ pair does; backends warn of them."""
    used = {name for node in graph.node for name in node.input}
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]:
        graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _prepare(model: Path, output: Path) -> Path:
    """Infer the shapes that the quantizer needs."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(model, output, skip_symbolic_shape=True, skip_optimization=True)
    return output


def _float_nodes(graph: Any) -> list[str]:
    """Return the nodes that stay float: those whose 8 bits cost the most accuracy and save the least time.

    Layout and normalisation of the pixels, convolutions with fewer than 16 input channels (the
    first layer: quantising it alone made half of the noise in EfficientNet-Lite0's features),
    and the layer that gives the logits.
    """
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.graph.initializer}
    logits = graph.graph.output[0].name
    names = []
    for node in graph.graph.node:
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        few_channels = (
            node.op_type == "Conv" and shapes.get(node.input[1], [0, _FEW_CHANNELS])[1] * groups < _FEW_CHANNELS
        )
        if few_channels or node.op_type == "Transpose" or logits in node.output:
            names.append(node.name)
    return names
