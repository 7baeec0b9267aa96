"""Makes a run of a classifier that another program trained; evaluate, quantize and bundle take it like any other run.

Its logits are compared with those of its own library, and with labeled images the accuracy is measured too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.files.outputs import claim_output, new_folder
from edgeclf_runtime.files.schema import JsonObject, SchemaError, parse_json
from edgeclf_runtime.images.preprocess import as_batch
from edgeclf_runtime.text.terminal import printable

from ...data.checks.integrity import check_for_training
from ...data.datasets import Dataset, Sample, load_dataset
from ...data.findings import counted, left_out_lines, listed
from ...data.layout import same_label
from ...data.sampling import evenly_spaced
from ...data.schemas import IMPORTED, IMPORTED_RUN, RUN_FORMAT, RUN_FORMAT_VERSION
from ...display.json_file import json_text
from ...display.progress import say
from ...display.report import Bars, Report
from ...errors import DataError, GateError, ModelError, OptionError
from ...evaluation.evaluation_set import EvaluationSet
from ...evaluation.metadata import model_metadata
from ...graph.contract import wrap
from ...graph.features import reporting_features
from ...graph.foreign_model import Core, make_core
from ...graph.inference import infer_graph
from ...graph.onnx_file import save_model
from ...options import ImportOptions, merged
from ...targets import OPSET, model_file
from ...training.runs import RUN_FILE, Run, data_facts
from ...training.train import versions
from .settings import (
    Known,
    Settings,
    checked_labels,
    make_settings,
    missing,
    refusal,
    settle,
)
from .source import Source, open_source
from .trial import (
    EVIDENT_GAIN,
    MOST_IMAGES,
    Measured,
    evidence,
    measure_ways,
    table,
    usual_ways,
    warn_if_useless,
    way_of,
)

if TYPE_CHECKING:
    import onnx
    import torch

TOLERANCE = 1e-3
"""Largest accepted difference of a logit from the original's, relative to the largest logit if that is more than 1."""
_COMPARED = 8


@dataclass(frozen=True)
class ImportReport(Report):
    """An imported run."""

    run: str
    model: str
    """Name of the file, or of the module's class."""
    labels: tuple[str, ...]
    options: JsonObject
    """The preparation of images; ``sources`` has the source of each option."""
    removed: str
    """The activation that was removed from the model's end, or ""."""
    dynamic_batch: bool
    largest_difference: float
    """Largest difference of a logit (of a probability, if an activation was removed) from the original's."""
    compared_images: int
    accuracy: float | None
    """Share of the labeled images that are right; None without data."""
    images: int
    """Labeled images on which accuracy was measured."""
    ways: dict[str, float]
    """Accuracy with other settings, if they were tried."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""

    def bars(self) -> Iterator[Bars]:
        """Yield the accuracy with these settings and with the others that were tried; without data, the largest difference."""
        if self.accuracy is None:
            yield Bars("largest difference from the original", {self.model: self.largest_difference}, "{:.1e}")
        else:
            yield Bars("accuracy", {"as imported": self.accuracy, **self.ways}, "{:.1%}")

    def __str__(self) -> str:
        facts = self.options
        height, width = facts["size"]
        three = {name: ",".join(f"{value:g}" for value in facts[name]) for name in ("mean", "std")}
        sources = ", ".join(f"{field}: {source}" for field, source in facts["sources"].items() if source != "given")
        lines = [
            f"{self.run}: {printable(self.model)}, {len(self.labels)} labels, {height} x {width}, {facts['color']}, "
            f"range {facts['range']}, mean {three['mean']}, std {three['std']}, {facts['resize']} {facts['crop']:g}",
            f"from {sources}" if sources else "",
            f"same as the original within {self.largest_difference:.1e} on {self.compared_images} images"
            + (f"; {self.removed} removed" if self.removed else "")
            + ("" if self.dynamic_batch else "; one image at a time, as in the file"),
            f"accuracy {self.accuracy:.4f} on {self.images} labeled images"
            if self.accuracy is not None
            else "nothing was proven about colors, normalization and labels: import again with --data to measure accuracy",
        ]
        lines += left_out_lines(self.unreadable)
        return "\n".join(filter(None, lines))


def import_model(
    model: str | Path | torch.nn.Module,
    output: str | Path,
    options: ImportOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> ImportReport:
    """Import an ONNX file, a TorchScript file or a torch module as a run.

    The option ``data`` may also be a Dataset.

    Raises OptionError, with all that is missing, if neither the options nor the file say how images are made; ModelError
    for a file that cannot become a run; DataError; and GateError if the logits differ from the original's, or if other
    settings evidently classify the labeled images better.
    """
    options = merged(ImportOptions, options, keywords)
    if not isinstance(overwrite, bool):
        raise OptionError(
            f"overwrite is {overwrite!r}; True or False was expected, and images by name: data={overwrite!r}"
        )
    claim_output(output, overwrite, RUN_FILE)
    source = open_source(model, options)
    values, sources = settle(options, source.declared, source.dims, source.name)
    if "labels" in values:
        values["labels"] = checked_labels(values["labels"], options.labels or source.name)
    dataset, findings, unreadable = _load(options.data, options, values) if options.data is not None else (None, (), 0)
    lacking = missing(values)
    if lacking:
        raise refusal(source.name, lacking, _hint(source, values, lacking, dataset, options))
    settings = make_settings(values, sources)
    core = _make_core(source, settings, options)
    if dataset:
        _refuse_unknown(dataset, settings.labels)
    wrapped = wrap(core, settings.shape, settings.normalization, len(settings.labels))
    measured = _measure(core, settings, dataset, options) if dataset else []
    difference, compared = _compare(source, core, wrapped, settings, dataset)
    own = measured[0] if measured else None
    facts = _facts(source, core, settings, own)
    with new_folder(output, overwrite, RUN_FILE) as folder:
        if dataset:
            facts["data"] = {**data_facts(dataset, Path(folder)), "findings": list(findings), "unreadable": unreadable}
        _write(Path(folder), facts, wrapped)
    return ImportReport(
        run=str(output),
        model=source.name,
        labels=settings.labels,
        options=settings.to_dict(),
        removed=core.removed,
        dynamic_batch=core.dynamic,
        largest_difference=difference,
        compared_images=compared,
        accuracy=own.accuracy if own else None,
        images=len(own.right) if own else 0,
        ways={f"--color {one.way.color} {one.way.options}": one.accuracy for one in measured[1:]},
        unreadable=unreadable,
    )


def _load(data: str | Path | Dataset, options: ImportOptions, values: Known) -> tuple[Dataset, tuple[str, ...], int]:
    """Return the checked images, what the check found, and how many images were left out; values: what is known so far."""
    dataset = load_dataset(data, options.split)
    size, resize = values.get("size"), values.get("resize") or "crop"
    dataset, report = check_for_training(
        dataset, options.skip_unreadable, min(size) if size else None, resize, imported=True
    )
    found = tuple(str(finding) for finding in report.findings)
    for line in found:
        say(line)
    return dataset, found, len(report.unreadable)


def _refuse_unknown(dataset: Dataset, labels: tuple[str, ...]) -> None:
    """Raise DataError for images of a label that the model has not, with the one that may be meant."""
    unknown = sorted(set(dataset.labels) - set(labels))
    if unknown:
        known = {same_label(label): label for label in labels}
        meant = [f"{one!r} may be {known[same_label(one)]!r}" for one in unknown if same_label(one) in known]
        raise DataError(
            f"{dataset.name} has the labels {listed(unknown)}, which the model does not know; it knows {listed(labels)}"
            + (f" ({listed(meant)})" if meant else "")
            + ": write them alike, in --labels or in the data, or remove those images"
        )


def _make_core(source: Source, settings: Settings, options: ImportOptions) -> Core:
    """Return the plain classifier; ModelError if its outputs are not as many as the labels."""
    count = len(settings.labels)
    settings.preprocessing  # noqa: B018 - refuses a size that no image has, before anything is made of it
    core = make_core(source.graph(settings.shape), settings.shape, count, options.tensor or "")
    blank = np.zeros(settings.shape.sizes(1), np.float32)
    outputs = infer_graph(core.model, "fp32", [blank]).size
    if outputs != count:
        more = "; perhaps the first is a background that the labels leave out" if outputs == count + 1 else ""
        raise ModelError(
            f"{source.name} has {counted(outputs, 'output')}, but there {'is' if count == 1 else 'are'} {counted(count, 'label')} "
            f"({options.labels or settings.sources['labels']}){more}: "
            "give one label for each output with --labels"
        )
    return core


def _sample(dataset: Dataset) -> list[Sample]:
    return [dataset.samples[index] for index in evenly_spaced(len(dataset.samples), MOST_IMAGES)]


def _images(settings: Settings, dataset: Dataset) -> EvaluationSet:
    spec = settings.preprocessing._replace(color="RGB")
    return EvaluationSet(_sample(dataset), settings.labels, spec, dataset.name)


def _measure(core: Core, settings: Settings, dataset: Dataset, options: ImportOptions) -> list[Measured]:
    """Measure accuracy, first with the settings, then with the usual ones; GateError if one of these is evidently right."""
    images = _images(settings, dataset)
    layout, given = settings.shape.layout, way_of(settings.color, settings.normalization)
    measured = measure_ways(core, layout, images, [given])
    # Nothing can be better by the gain that counts as evident.
    if measured[0].accuracy <= 1 - EVIDENT_GAIN:
        others = [way for way in usual_ways() if not way.is_same(given)]
        measured += measure_ways(core, layout, images, others)
    found = evidence(measured[0], measured[1:], dataset.name)
    if found and not options.force:
        raise GateError(f"{found}; no run was written")
    if found:
        say(f"warning: {found}")
    else:
        warn_if_useless(measured[0], images.truth)
    return measured


def _hint(source: Source, values: Known, lacking: list[str], dataset: Dataset | None, options: ImportOptions) -> str:
    """Return the accuracy with each of the usual settings, if color and normalization are all that is missing."""
    unknown = {"color", "range", "mean", "std"}
    if dataset is None or not set(lacking) <= unknown:
        return ""
    neutral: Known = {"color": "RGB", "range": "0-1", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    settings = make_settings({**neutral, **values}, {"labels": "given"})
    core = _make_core(source, settings, options)
    measured = measure_ways(core, settings.shape.layout, _images(settings, dataset), usual_ways())
    return f"accuracy with the usual settings, on {len(measured[0].right)} images of {dataset.name}:\n{table(measured)}"


def _compare(
    source: Source, core: Core, wrapped: onnx.ModelProto, settings: Settings, dataset: Dataset | None
) -> tuple[float, int]:
    """Return the largest difference from the original's results, and the number of images; GateError if it is too large."""
    batches = list(_batches(settings, dataset))
    found = infer_graph(wrapped, "fp32", batches)
    inputs = (settings.normalization.apply(batch, settings.shape.layout) for batch in batches)
    expected = source.scores(inputs, len(settings.labels))
    if core.removed:
        found = softmax(found)
        expected = np.exp(expected) if core.removed == "LogSoftmax" else expected
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise GateError(
            f"the imported model's results differ from those of {source.name} by {difference:.2g}, at most {TOLERANCE} was "
            "expected; no run was written"
        )
    return difference, len(batches)


def _batches(settings: Settings, dataset: Dataset | None) -> Iterator[np.ndarray]:
    """Yield images, or noise if there are none: float32 [1, height, width, 3], values 0 to 255."""
    if dataset:
        spec, samples = settings.preprocessing, _sample(dataset)
        chosen = [samples[index] for index in evenly_spaced(len(samples), _COMPARED)]
        yield from EvaluationSet(chosen, settings.labels, spec, dataset.name).batches()
        return
    random = np.random.default_rng(0)
    size = settings.shape.height, settings.shape.width, 3
    yield from (as_batch([random.integers(0, 256, size, np.uint8)]) for _ in range(_COMPARED))


def _facts(
    source: Source,
    core: Core,
    settings: Settings,
    own: Measured | None,
) -> JsonObject:
    """Return run.json's content, without the data."""
    libraries = ("numpy", "cv2", "onnx", "onnxruntime", *(["torch"] if source.kind != "ONNX" else []))
    return {
        "format": RUN_FORMAT,
        "format_version": RUN_FORMAT_VERSION,
        "kind": IMPORTED,
        "labels": list(settings.labels),
        "preprocessing": settings.preprocessing._asdict(),
        "options": settings.to_dict(),
        "model": {
            "name": source.name,
            "sha256": source.sha256,
            "kind": source.kind,
            "removed": core.removed,
            "opset": OPSET,
        },
        "data": None,
        "metrics": {"accuracy": own.accuracy, "images": len(own.right)} if own else {},
        "versions": versions(libraries),
    }


def _write(folder: Path, facts: JsonObject, wrapped: onnx.ModelProto) -> None:
    text = json_text(facts, indent=1) + "\n"
    try:
        IMPORTED_RUN(parse_json(text.encode()), "")
    except (SchemaError, UnicodeEncodeError) as error:
        raise ModelError(f"{facts['model']['name']} cannot become a run ({error}): rename what is not valid") from None
    save_model(reporting_features(wrapped), folder / model_file("fp32"), model_metadata(Run(folder, facts), "fp32"))
    (folder / RUN_FILE).write_text(text, encoding="utf-8")
