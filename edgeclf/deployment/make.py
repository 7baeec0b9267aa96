"""Makes a bundle from labeled images by one call, and resumes where an earlier call stopped.

NAME.edge has its run beside it, NAME.run.  What is finished is found out from the run: its options, its split.csv, and the
files that quantization.json describes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgeclf_runtime import __version__
from edgeclf_runtime.bundle.manifest import SHA256
from edgeclf_runtime.bundle.open_bundle import MANIFEST, MANIFEST_HASH, open_bundle
from edgeclf_runtime.files.outputs import claim_output, new_file
from edgeclf_runtime.files.read import read_json, sha256_bytes, sha256_file
from edgeclf_runtime.files.schema import JsonObject, any_json, mapping, record, text

from ..data.checks.integrity import check
from ..data.datasets import Dataset
from ..data.exclusion import load_training_data
from ..data.findings import left_out_lines
from ..data.pixels import without_unreadable
from ..data.schemas import MAX_JSON_BYTES
from ..data.temporary import temporary_folder
from ..display.json_file import write_json
from ..display.progress import say, say_report
from ..display.report import Bars, Report
from ..errors import OutputError
from ..evaluation.evaluate import evaluate
from ..evaluation.export import exported
from ..options import BundleOptions, CheckOptions, EvaluateOptions, MakeOptions, QuantizeOptions, TrainOptions, merged
from ..quantization.earlier import earlier_report
from ..quantization.inputs import asked
from ..quantization.quantize import quantize
from ..quantization.report import FailedFlavor, FlavorError, QuantizedFile
from ..targets import CALIBRATION_CACHE, FLAVORS, model_file
from ..training.dry_run.try_backbone import try_backbone
from ..training.runs import RUN_FILE, SPLIT_FILE, Run, read_run, write_split
from ..training.train import train
from ..training.unfinished import Unfinished, option_changes, split_changes
from .bundling import bundle, check_name

STATE_FILE = "make.json"
"""In the run: the training options as given, the id of the bundle that was made, and a hash of what it was made from."""
_STATE = record(
    {"train": mapping(text(), any_json), "bundle": SHA256, "inputs": SHA256}, optional=("train", "bundle", "inputs")
)
_RETRY = "pass --overwrite to make it again, or choose another --output"


@dataclass(frozen=True)
class MakeReport(Report):
    """A bundle, and how it came about."""

    output: str
    run: str
    bundle_id: str
    accuracy: float
    """Of FP32 on the split below."""
    split: str
    images: int
    made: tuple[str, ...]
    """Steps that were done now; the others were done by an earlier call."""
    seconds: dict[str, float]
    """By step."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""

    def bars(self) -> Iterator[Bars]:
        """Yield the seconds of each step, and the accuracy."""
        yield Bars("seconds", self.seconds, "{:.0f}")
        yield Bars(f"accuracy ({self.split})", {"fp32": self.accuracy}, "{:.2%}")

    def __str__(self) -> str:
        done = ", ".join(f"{step} {self.seconds[step]:.0f} s" for step in self.made)
        return "\n".join(
            [
                f"{self.output}: id {self.bundle_id[:12]}; fp32 accuracy {self.accuracy:.4f} on {self.images} images ({self.split})",
                f"run     {self.run}",
                f"made    {done or 'nothing: everything was up to date'}",
                *left_out_lines(self.unreadable),
            ]
        )


def make(
    data: str | Path | Dataset,
    output: str | Path,
    options: MakeOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> MakeReport:
    """Check, train, export, quantize, evaluate and bundle; the run is NAME.run beside ``output``, NAME.edge.

    Steps that an earlier call finished with the same data and options are not done again.  A flavor that does not pass the
    accuracy gate is left out with a warning.  Raises OutputError if the data or the options are others than those of the
    run, of its files or of the bundle; with ``overwrite`` what depends on them is made again.
    """
    options = merged(MakeOptions, options, keywords)
    output = Path(output)
    check_name(output)
    path = output.with_suffix(".run")
    if _state(path).get("bundle") != _id_of(output):
        claim_output(output, overwrite, MANIFEST)
    steps = Steps()
    try:
        run = _train(steps, data, path, options.part(TrainOptions), overwrite)
        with steps.step("export", not (path / model_file("fp32")).is_file()):
            exported(run)
        # The run has only images that can be decoded.
        rest = replace(options, skip_unreadable=False)
        _quantize(steps, run, rest.part(QuantizeOptions), overwrite)
        _bundle(steps, run, output, rest.part(BundleOptions), overwrite)
    except KeyboardInterrupt:
        say(f"stopped; the same command continues with what is finished in {path}")
        raise
    opened = open_bundle(output)
    metrics = opened.model("fp32").metrics
    return MakeReport(
        output=str(output),
        run=str(path),
        bundle_id=opened.id,
        accuracy=metrics["accuracy"],
        split=metrics["split"],
        images=metrics["images"],
        made=tuple(steps.made),
        seconds={name: round(value, 2) for name, value in steps.seconds.items()},
        unreadable=run.facts["data"].get("unreadable", 0),
    )


class Steps:
    """Shows the steps of a long command, and times them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.made: list[str] = []

    @contextmanager
    def step(self, name: str, needed: bool = True) -> Iterator[None]:
        """Time the block; ``needed``: whether there is something to do."""
        say("")
        say(f"{len(self.seconds) + 1}. {name}" + ("" if needed else ": done before"))
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start
        if needed:
            self.made.append(name)


def _train(steps: Steps, data: str | Path | Dataset, path: Path, options: TrainOptions, overwrite: bool) -> Run:
    dataset = load_training_data(data, options)
    finished = (path / RUN_FILE).is_file()
    changes = _changes(read_run(path), dataset, options) if finished else []
    if changes and not overwrite:
        raise OutputError(f"{path} was trained with other data or options ({'; '.join(changes)}): {_RETRY}")
    needed = bool(changes) or not finished
    checked = None
    with steps.step("check", needed):
        if needed:
            size = try_backbone(options, dataset.labels)[1].height
            checks = CheckOptions(image_size=size, resize=options.resize, skip_unreadable=options.skip_unreadable)
            checked = check(dataset, checks)
            say_report(checked)
    with steps.step("train", needed):
        if needed:
            say(f"the run is {path}")
            begun = Unfinished(path).path.exists()
            say_report(train(dataset, path, options, overwrite, checked, resume=begun))
            _write_state(path, train=asdict(options))
    run = read_run(path)
    # The same images, perhaps in another place.
    found = {**run.facts["data"], "root": os.path.abspath(dataset.root)}
    return replace(run, facts={**run.facts, "data": found})


def _changes(run: Run, dataset: Dataset, options: TrainOptions) -> list[str]:
    """Return in words how the data and options differ from those that a run was trained with."""
    # run.json has the architecture of a backbone that was named in another way.
    state = _state(run.path)
    before: JsonObject = state["train"] if "train" in state else run.facts["options"]
    now = asdict(options)
    changes = option_changes(before, json.loads(json.dumps(now)))
    weights = run.facts.get("weights") or {}
    if weights.get("source") == "file" and weights.get("sha256") != _sha256(Path(options.weights)):
        changes.append(f"the weights {options.weights} have changed")
    if options.skip_unreadable:
        dataset = without_unreadable(dataset)
    with temporary_folder() as folder:
        if write_split(Path(folder), dataset) != run.facts["data"]["split_sha256"]:
            if run.facts["data"]["root"] != os.path.abspath(dataset.root):
                changes.append(f"the data was {run.facts['data']['root']}")
            changes.append(split_changes(run.file(SPLIT_FILE), Path(folder, SPLIT_FILE)))
    return changes


def _quantize(steps: Steps, run: Run, options: QuantizeOptions, overwrite: bool) -> None:
    report = earlier_report(run.path / model_file("fp32"))
    files = report.files if report else ()
    tried: tuple[QuantizedFile | FailedFlavor, ...] = (*files, *(report.failed if report else ()))
    done = {one.name: asked(options) == one.conditions.options for one in tried}
    other = [file.name for file in files if file.name in options.wanted and not done[file.name]]
    if other and not overwrite:
        raise OutputError(f"{run.path} has files that were quantized with other options ({', '.join(other)}): {_RETRY}")
    missing = tuple(name for name in options.wanted if not done.get(name))
    with steps.step("quantize", bool(missing)):
        if missing:
            try:
                say_report(quantize(run, replace(options, flavors=missing, targets=()), overwrite))
            except FlavorError as error:
                say_report(error.report)
                say(f"warning: {error}")


def _bundle(steps: Steps, run: Run, output: Path, options: BundleOptions, overwrite: bool) -> None:
    """Evaluate and make the bundle, unless it is up to date."""
    inputs, state = _inputs(run, options), _state(run.path)
    ours = state.get("bundle") == _id_of(output)
    needed = not ours or state.get("inputs") != inputs
    if ours and needed and not overwrite:
        raise OutputError(f"{output} was made from other files or with other options: {_RETRY}")
    with steps.step("evaluate", needed):
        if needed:
            dataset = run.dataset()
            split = "test" if dataset.counts()["test"] else "val"
            say_report(evaluate(run.path, dataset, EvaluateOptions(split=split, name="fp32")))
    with steps.step("bundle", needed):
        if needed:
            report = bundle(run, output, options, overwrite)
            say_report(report)
            _write_state(run.path, bundle=report.id, inputs=inputs)


def _inputs(run: Run, options: BundleOptions) -> str:
    """Return a hash of what a bundle is made from."""
    names = [model_file("fp32"), *map(model_file, FLAVORS), CALIBRATION_CACHE]
    facts: dict[str, object] = {name: sha256_file(run.path / name) for name in names if (run.path / name).is_file()}
    facts.update(options=asdict(options), version=__version__)
    return sha256_bytes(json.dumps(facts, sort_keys=True).encode())


def _state(path: Path) -> JsonObject:
    """Return what make.json says, {} if there is none, or if it is damaged."""
    try:
        state: JsonObject = read_json(path / STATE_FILE, MAX_JSON_BYTES)
        _STATE(state, "")
    except (OSError, ValueError):
        return {}
    return state


def _write_state(path: Path, **facts: object) -> None:
    state = {**_state(path), **facts}
    with new_file(path / STATE_FILE, overwrite=True) as work:
        write_json(work, state)


def _sha256(path: Path) -> str:
    return sha256_file(path) if path.is_file() else ""


def _id_of(output: Path) -> str:
    """Return a bundle's id, "" if there is no bundle."""
    try:
        text = (output / MANIFEST_HASH).read_text(encoding="ascii")
        return text[:64] if sha256_file(output / MANIFEST) == text[:64] else ""
    except (OSError, ValueError):
        return ""
