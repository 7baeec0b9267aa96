"""Packs a run into a bundle: one folder that a device runs by itself."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import edgeclf_runtime
from edgeclf_runtime.bundle.manifest import FORMAT, FORMAT_VERSION, MANIFEST_SCHEMA
from edgeclf_runtime.bundle.open_bundle import MANIFEST, MANIFEST_HASH
from edgeclf_runtime.classify.known_images import KnownImages
from edgeclf_runtime.files.outputs import claim_output, new_folder
from edgeclf_runtime.files.read import sha256_bytes, sha256_file
from edgeclf_runtime.files.schema import JsonObject, SchemaError, parse_json

from ..data.datasets import Dataset
from ..data.findings import count_files
from ..data.folder_update import copy_folder
from ..display.json_file import json_text
from ..display.report import Bars, Report
from ..errors import ModelError, OptionError
from ..evaluation.evaluate import Evaluation, measure
from ..evaluation.evaluation_set import EvaluationSet
from ..evaluation.export import exported
from ..evaluation.logit_store import LogitStore, stored_logits
from ..evaluation.metadata import KEPT_SPLIT
from ..evaluation.rejection.distance_threshold import DistanceThreshold
from ..evaluation.rejection.label_precision import LabelThreshold
from ..evaluation.rejection.label_sets import LabelSets
from ..graph.onnx_file import graph_sha256
from ..options import BundleOptions, merged
from ..quantization.earlier import earlier_report
from ..quantization.report import REPORT_FILE, QuantizedFile, read_report_facts
from ..targets import CALIBRATION_CACHE, FLAVORS, FLOAT_BACKENDS, TARGETS, model_file, precision_of
from ..training.runs import Run, read_run
from .bundle_notes import (
    about_coverage,
    about_features,
    about_lacks,
    about_rejections,
    about_repeated,
    about_slower,
)
from .examples import write_examples
from .golden import GoldenFacts, write_golden
from .health_baseline import UsualResults, usual_results, write_baseline
from .rejection import ModelRejection, fit_known, fit_rejections, infer_validation, write_known
from .training_images import training_images


@dataclass(frozen=True)
class ModelFacts:
    """A bundle's model, as the host measured it."""

    size: int
    accuracy: float
    temperature: float
    threshold: float
    coverage: float
    """Share of the validation images whose confidence reaches the threshold."""
    precision: float
    """Share of those whose label is correct."""
    labels: dict[str, LabelThreshold]
    """Thresholds of labels that need a precision of their own."""
    distance: DistanceThreshold | None
    """None if no distance is rejected."""
    label_sets: LabelSets | None


@dataclass(frozen=True)
class BundleReport(Report):
    """A bundle that was written."""

    path: str
    id: str
    """The sha256 of its manifest, and so of everything in it."""
    models: tuple[str, ...]
    files: int
    size: int
    facts: dict[str, ModelFacts]
    """By model."""
    lacks: dict[str, tuple[str, ...]]
    """By target: the models that it uses and that the run does not have."""
    notes: tuple[str, ...]
    """A sentence about what each target lacks, thresholds that leave few labels, and images that were left out."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""

    def bars(self) -> Iterator[Bars]:
        """Yield each model's accuracy, size, and the share of images that keep a label."""
        facts = self.facts
        yield Bars("accuracy", {name: one.accuracy for name, one in facts.items()}, "{:.2%}")
        yield Bars("size, MB", {name: one.size / 1e6 for name, one in facts.items()}, "{:.1f}")
        yield Bars("images that keep a label", {name: one.coverage for name, one in facts.items()}, "{:.1%}")

    def __str__(self) -> str:
        head = f"{self.path}: {self.files} files, {self.size / 1e6:.1f} MB, id {self.id[:12]}"
        lines = [f"{'model':<13}      MB  accuracy  temperature  threshold  coverage  precision"]
        lines += [
            f"{name:<13} {one.size / 1e6:7.1f}  {one.accuracy:8.4f}  {one.temperature:11.4f}  {one.threshold:9.4f}"
            f"  {one.coverage:8.1%}  {one.precision:9.1%}"
            for name, one in self.facts.items()
        ]
        return "\n".join([head, *lines, *self.notes])


def bundle(
    run: str | Path | Run,
    output: str | Path,
    options: BundleOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> BundleReport:
    """Pack a run's models, the runtime and golden images into NAME.edge.

    A run that was not exported is exported first.  Models that a target uses and that the run lacks are left out, and named
    in the report.  Each model is evaluated on the test split if there is one, else on val; images that evaluate() or quantize()
    inferred before are not inferred again.  The same run gives the same bytes.
    """
    options = merged(BundleOptions, options, keywords)
    output = Path(output)
    check_name(output)
    if not isinstance(run, Run):
        run = read_run(run)
    claim_output(output, overwrite, MANIFEST)
    dataset = run.dataset(options.data, needs=("val",), skip_unreadable=options.skip_unreadable)
    exported(run, dataset)
    stale = _is_stale(run)
    every = _models(run, options, stale)
    repeated = _repeated(run, every)
    models = [name for name in every if name not in repeated]
    slower = _slower(run, models)
    measured = _measure(run, dataset, models, options)
    evaluations, rejections = measured.evaluations, measured.rejections
    with new_folder(output, overwrite, MANIFEST) as folder:
        work = Path(folder)
        _copy_models(work, run, models, () if stale else options.targets)
        _copy_runtime(work)
        facts = write_golden(work, run, dataset, models, options.golden)
        notes = [*write_baseline(work, measured.training, measured.usual), *write_known(work, measured.known)]
        if options.examples:
            notes += write_examples(work, measured.training, measured.known)
        entries = [_model_entry(name, evaluations[name], rejections[name], facts[name]) for name in models]
        manifest = _write_manifest(work, run, output.stem, entries, _order(models, options, slower))
        sizes = [path.stat().st_size for path in work.rglob("*") if path.is_file()]
    lacks = _lacks(every, options)
    return BundleReport(
        path=str(output),
        id=sha256_bytes(manifest),
        models=tuple(models),
        files=len(sizes),
        size=sum(sizes),
        facts={name: _model_facts(_file(run, name), evaluations[name], rejections[name]) for name in models},
        lacks=lacks,
        notes=(
            *about_lacks(run, lacks, _refused(run), stale, options.data),
            *about_repeated(repeated),
            *about_slower(slower),
            *about_coverage({name: one.confidence for name, one in rejections.items()}, options),
            *about_rejections(rejections),
            *about_features([entry["name"] for entry in entries if "features" not in entry]),
            *notes,
            *(finding.message for finding in dataset.findings),
        ),
        unreadable=count_files(dataset.findings, "unreadable"),
    )


def check_name(output: Path) -> None:
    """Raise OptionError for a bundle's name that does not end with .edge."""
    if output.suffix != ".edge":
        better = f"{output if output.name else 'bundle'}.edge"
        raise OptionError(f"{output} was given as the bundle's name; NAME.edge was expected, such as {better}")


def _copy_models(work: Path, run: Run, models: Iterable[str], cache_for: Iterable[str]) -> None:
    """Copy the model files, and TensorRT's calibration cache if one of the targets ``cache_for`` reads it."""
    for name in models:
        shutil.copyfile(_file(run, name), work / model_file(name))
    cache = run.path / CALIBRATION_CACHE
    if any(TARGETS[name].calibration_cache for name in cache_for) and cache.is_file():
        shutil.copyfile(cache, work / CALIBRATION_CACHE)


def _model_facts(file: Path, evaluation: Evaluation, rejection: ModelRejection) -> ModelFacts:
    confidence = rejection.confidence
    return ModelFacts(
        size=file.stat().st_size,
        accuracy=round(evaluation.accuracy, 6),
        temperature=confidence.temperature,
        threshold=confidence.threshold,
        coverage=confidence.coverage,
        precision=confidence.precision,
        labels=rejection.labels,
        distance=rejection.distance,
        label_sets=rejection.label_sets,
    )


def _lacks(models: list[str], options: BundleOptions) -> dict[str, tuple[str, ...]]:
    every = {target: tuple(name for name in TARGETS[target].models if name not in models) for target in options.targets}
    return {target: names for target, names in every.items() if names}


def _refused(run: Run) -> list[str]:
    """Return the models that did not pass the accuracy gate."""
    failed = _facts_of_quantization(run).get("failed")
    named = [one.get("name") for one in (failed if isinstance(failed, list) else ()) if isinstance(one, dict)]
    return [name for name in named if isinstance(name, str)]


def _is_stale(run: Run) -> bool:
    """Return whether the quantized files were made from another FP32 file than the run has now."""
    made_from = _facts_of_quantization(run).get("sha256_fp32")
    return made_from is not None and made_from != sha256_file(_file(run, "fp32"))


def _write_manifest(work: Path, run: Run, name: str, models: list[JsonObject], order: dict[str, list[str]]) -> bytes:
    """Write manifest.json about everything that is in the folder by now, and its hash; returns its bytes."""
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "labels": list(run.labels),
        "preprocessing": run.preprocessing._asdict(),
        "models": models,
        "order": order,
        "provenance": _provenance(run),
        "files": {
            path.relative_to(work).as_posix(): _facts(path) for path in sorted(work.rglob("*")) if path.is_file()
        },
    }
    data = (json_text(manifest, indent=1) + "\n").encode()
    _check_manifest(data, run)
    (work / MANIFEST).write_bytes(data)
    (work / MANIFEST_HASH).write_text(f"{sha256_bytes(data)}  {MANIFEST}\n", encoding="ascii")
    return data


def _check_manifest(data: bytes, run: Run) -> None:
    """Raise ModelError for a manifest that no device would accept, before it is written."""
    try:
        MANIFEST_SCHEMA(parse_json(data), "")
    except SchemaError as error:
        raise ModelError(f"{run.path} cannot be bundled ({error}); change that, and train again") from None


def _models(run: Run, options: BundleOptions, stale: bool) -> list[str]:
    """Return the models that the targets use and the run has; fp32, which every target can use, must exist."""
    wanted = dict.fromkeys(name for target in options.targets for name in TARGETS[target].models)
    return [name for name in wanted if name == "fp32" or (not stale and (run.path / model_file(name)).is_file())]


def _repeated(run: Run, models: list[str]) -> dict[str, str]:
    """Return the models whose file computes the same as another's that runs on their backends too, with that one's name."""
    import onnx

    found = {}
    for name, other in itertools.permutations([name for name in models if name in FLAVORS], 2):
        if set(FLAVORS[name].backends) < set(FLAVORS[other].backends):
            mine, others = (graph_sha256(onnx.load(_file(run, one))) for one in (name, other))
            if mine == others:
                found[name] = other
    return found


class _Measured(NamedTuple):
    """A run's models on its images: the evaluations and rejections of each, and the training images with what shows them."""

    evaluations: dict[str, Evaluation]
    rejections: dict[str, ModelRejection]
    training: EvaluationSet
    known: KnownImages | None
    usual: UsualResults


def _measure(run: Run, dataset: Dataset, models: list[str], options: BundleOptions) -> _Measured:
    validation = EvaluationSet(dataset.split("val"), run.labels, run.preprocessing)
    with stored_logits(run) as store:
        evaluations = _evaluate(run, dataset, models, store)
        outputs = infer_validation(run, models, validation, store)
        training, split = training_images(run, dataset)
        known = fit_known(run, training, outputs["fp32"], store) if split == "train" else None
    rejections = fit_rejections(outputs, validation.truth, run.labels, known, options)
    usual = usual_results(outputs["fp32"].logits, rejections["fp32"].confidence.temperature)
    return _Measured(evaluations, rejections, training, known, usual)


def _evaluate(run: Run, dataset: Dataset, models: list[str], store: LogitStore) -> dict[str, Evaluation]:
    """Return each model's evaluation on the test split, or on val if there is no test split."""
    split = "test" if dataset.counts()["test"] else "val"
    images = EvaluationSet(dataset.split(split), run.labels, run.preprocessing)
    return {
        name: measure(
            name, dataset.name, split, images, store.infer(_file(run, name), name, images, f"evaluating {name}")
        )
        for name in models
    }


def _file(run: Run, name: str) -> Path:
    return run.file(model_file(name))


def _slower(run: Run, models: list[str]) -> list[QuantizedFile]:
    """Return the files that were slower than FP32 when they were quantized, on a machine that they are for."""
    report = earlier_report(_file(run, "fp32"))
    return [file for file in (report.files if report else ()) if file.name in models and file.slower]


def _order(models: list[str], options: BundleOptions, slower: Iterable[QuantizedFile] = ()) -> dict[str, list[str]]:
    """Return the models in the order in which each machine tries them, with those behind FP32 that were slower."""
    behind = {file.name for file in slower}
    order: dict[str, list[str]] = {}
    # In the table's order, whatever the order of --target.
    for target in [target for name, target in TARGETS.items() if name in options.targets]:
        for machine in target.machines:
            known = order.setdefault(machine, [])
            known += [model for model in target.models if model in models and model not in known]
    # What was slower on one processor may be faster on another, such as one with VNNI, so it stays.
    for machine, known in order.items():
        after = known.index("fp32") + 1
        first, last = known[:after], known[after:]
        order[machine] = [*sorted(first, key=behind.__contains__), *last]
    return {**order, "default": ["fp32", *(model for model in models if model != "fp32")]}


def _model_entry(name: str, evaluation: Evaluation, rejection: ModelRejection, golden: GoldenFacts) -> JsonObject:
    entry = {
        "name": name,
        "file": model_file(name),
        "precision": precision_of(name),
        "backends": list(FLAVORS[name].backends if name in FLAVORS else FLOAT_BACKENDS),
        "tolerances": golden.tolerances,
        **rejection.entry(),
        "metrics": {
            "split": evaluation.split,
            "images": evaluation.images,
            "accuracy": round(evaluation.accuracy, 6),
            "macro_f1": round(evaluation.macro_f1, 6),
            **rejection.metrics(),
        },
    }
    return entry if golden.features is None else {**entry, "features": golden.features}


def _copy_runtime(work: Path) -> None:
    source = Path(edgeclf_runtime.__file__).parent
    copy_folder(source, work / "edgeclf_runtime", without=("__pycache__", "bundle_entry.py"))
    shutil.copyfile(source / "bundle_entry.py", work / "__main__.py")
    for folder in [
        work,
        *(path for path in (work / "edgeclf_runtime").rglob("*") if path.is_dir()),
        work / "edgeclf_runtime",
    ]:
        # An empty file where Python would keep byte code: it can neither write any there nor run what was planted.
        (folder / "__pycache__").touch()


def _provenance(run: Run) -> JsonObject:
    data = {key: run.facts["data"][key] for key in ("name", "split", "split_sha256", "images")}
    data[KEPT_SPLIT] = run.kept_split
    provenance = {"data": data, "training": run.facts["options"], "versions": run.facts["versions"]}
    facts = _facts_of_quantization(run)
    if facts:
        provenance["calibration"] = {"images": facts["calibration_images"], "sha256": facts["calibration_sha256"]}
    return provenance


def _facts_of_quantization(run: Run) -> JsonObject:
    """Return a run's quantization.json, {} if it has none; ModelError if it is damaged."""
    try:
        return read_report_facts(run.path)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{run.path / REPORT_FILE} is damaged ({error}); make it again with: edgeclf quantize {run.path} --overwrite"
        ) from None


def _facts(path: Path) -> dict[str, int | str]:
    return {"size": path.stat().st_size, "sha256": sha256_file(path)}
