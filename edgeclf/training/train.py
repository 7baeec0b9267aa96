"""Fine-tunes a backbone on labeled images and writes a run.

A frozen backbone runs once over every image, and only the head is trained on its features; ``gradual`` and ``full`` continue
from there and train other layers too.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime import __version__
from edgeclf_runtime.files.outputs import check_length, claim_output, new_folder
from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.images.preprocess import Preprocessing

from ..data.checks.integrity import CheckReport, check_for_training, check_labels
from ..data.datasets import Dataset
from ..data.exclusion import load_training_data
from ..data.findings import Finding
from ..data.schemas import RUN_FORMAT, RUN_FORMAT_VERSION
from ..display.json_file import write_json
from ..display.progress import say
from ..display.report import Report
from ..errors import ModelError, OutputError, first_sentence
from ..options import NO_EFFECT, TrainOptions, merged
from ..options.config_file import write_config
from .results.training import report_training
from .run_images import about_changed_sides
from .runs import CONFIG_FILE, METRICS_FILE, RUN_FILE, SPLIT_FILE, WEIGHTS_FILE, data_facts, read_run
from .soft_targets_file import soft_targets_sha256
from .unfinished import Unfinished, option_changes
from .weights.checkpoint import separate_tensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .architecture import ImageClassifier
    from .distillation.teacher import Teacher
    from .loop.strategy import Trained
    from .weights.sources import Weights

Row = dict[str, float]
FROZEN = "warning: the backbone is frozen with random weights; use --finetune full, or pretrained weights"
_VERSIONED = ("torch", "torchvision", "timm", "lightning", "numpy", "cv2", "onnx", "onnxruntime")


@dataclass(frozen=True)
class TrainReport(Report):
    """A finished training."""

    run: str
    labels: tuple[str, ...]
    images: dict[str, int]
    epochs: int
    metrics: dict[str, float]
    """Metrics of the best epoch, whose weights are kept: loss, val_loss, val_accuracy, val_macro_f1; of adversarial training
    also val_attacked_accuracy."""
    warnings: tuple[str, ...]
    """Findings of the data check that did not stop training, and a warning about a frozen backbone without weights."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""
    history: tuple[dict[str, float], ...] = ()
    """The metrics of every epoch; of gradual and full, the first are those of the head."""
    best_epoch: int = 0
    """The epoch with the highest validation accuracy, of adversarial training that on attacked images, and of equal ones with
    the lowest validation loss."""

    def plot(self) -> Figure:
        """Return the curves of loss and validation accuracy as a matplotlib figure.

        Raises DependencyError if matplotlib is missing.
        """
        from .plots import draw_history

        return draw_history(self.history)

    def __str__(self) -> str:
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        images = ", ".join(f"{count} {split}" for split, count in self.images.items())
        images += f"; {self.unreadable} left out (cannot be decoded)" if self.unreadable else ""
        return f"{self.run}: {len(self.labels)} labels, {images}\nepoch {self.best_epoch} is the best of 0 to {self.epochs - 1}, and kept: {metrics}"


def train(
    data: str | Path | Dataset,
    output: str | Path,
    options: TrainOptions | None = None,
    overwrite: bool = False,
    checked: CheckReport | None = None,
    resume: bool = False,
    **keywords: object,
) -> TrainReport:
    """Check a data set, fine-tune a backbone on it and write a run.

    checked: the report of check() on the same data, image size and resize mode, so that it is not checked again.  resume: go
    on with OUTPUT.unfinished, which a training that was interrupted leaves; the result is the same as without interruption.
    The same seed, data and versions give the same weights.  Raises DataError if the data is not fit for training, OptionError,
    WeightsError, and OutputError if ``output`` exists, or if an unfinished training cannot be resumed because data or options have changed.
    """
    options = merged(TrainOptions, options, keywords)
    if resume and (Path(output) / RUN_FILE).is_file() and not overwrite:
        return _finished(output, options)
    from .machine.distributed import joined, leads, shared
    from .machine.threads import torch_threads

    with joined(), torch_threads():
        shared(lambda: _claim(output, overwrite, resume))
        weights, dataset, report = shared(lambda: _ready(data, output, options, checked))
        found = [str(finding) for finding in report.findings]
        for line in found if checked is None else ():
            say(line)
        from .distillation.teacher import read_teacher

        teacher = shared(lambda: read_teacher(options, dataset))
        for line in map(str, teacher.findings if teacher else ()):
            found.append(line)
            say(line)
        if weights is None and options.finetune == "head":
            found.append(FROZEN)
            say(FROZEN)
        course = _Course(dataset, options, weights, {"findings": found, "unreadable": len(report.unreadable)}, teacher)
        trained = course.run(output, overwrite, resume) if leads() else course.follow(output)
    rows, best = trained.rows, trained.best
    metrics = {name: value for name, value in best.items() if name != "epoch"}
    return TrainReport(
        run=str(output),
        labels=dataset.labels,
        images=dataset.counts(),
        epochs=len(rows),
        metrics=metrics,
        warnings=tuple(found),
        unreadable=len(report.unreadable),
        history=tuple(rows),
        best_epoch=int(best["epoch"]),
    )


def _finished(output: str | Path, options: TrainOptions) -> TrainReport:
    """Return the report of a run that is finished; OutputError if it was trained with other options."""
    run = read_run(output)
    before = {**run.facts["options"], "backbone": options.backbone}
    if changes := option_changes(before, json.loads(json.dumps(asdict(options)))):
        raise OutputError(
            f"{output} is finished, but with other options ({'; '.join(changes)}): choose another --output"
        )
    say(f"{output} is finished: there is nothing to resume")
    Unfinished(output).discard()
    with run.file(METRICS_FILE).open(newline="", encoding="utf-8") as stream:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    metrics = dict(run.facts["metrics"])
    epoch, facts = int(metrics.pop("epoch")), run.facts["data"]
    return TrainReport(
        run=str(output),
        labels=run.labels,
        images=facts["images"],
        epochs=len(rows),
        metrics=metrics,
        warnings=tuple(facts.get("findings", ())),
        unreadable=facts.get("unreadable", 0),
        history=tuple(rows),
        best_epoch=epoch,
    )


def _claim(output: str | Path, overwrite: bool, resume: bool) -> None:
    """Raise OutputError if the run cannot be written, or a training of it is unfinished."""
    claim_output(output, overwrite, RUN_FILE)
    unfinished = Unfinished(output)
    check_length(unfinished.path)
    unfinished.claim(resume, overwrite)


def _ready(
    data: str | Path | Dataset, output: str | Path, options: TrainOptions, checked: CheckReport | None
) -> tuple[Weights | None, Dataset, CheckReport]:
    """Return the weights, and the images to train on; labels first, then what takes seconds, then decoding every image."""
    from .dry_run.try_backbone import try_backbone

    data = load_training_data(data, options)
    check_labels(data)
    for finding in _about_replaced(output, data):
        say(f"{finding.severity}: {finding.message}")
    weights, spec = try_backbone(options, data.labels)
    if weights is not None:
        say(str(weights))
    return weights, *check_for_training(data, options.skip_unreadable, spec.height, options.resize, checked)


def _about_replaced(output: str | Path, data: Dataset) -> list[Finding]:
    """Return the findings about the run that will be replaced, if there is one; one that cannot be read has none."""
    if not Path(output, RUN_FILE).is_file():
        return []
    try:
        return about_changed_sides(str(output), read_run(output).split_rows(), data)
    except ModelError:
        return []


@dataclass(frozen=True)
class _Course:
    """The plan of a training: network, images and weights."""

    dataset: Dataset
    options: TrainOptions
    weights: Weights | None
    found: JsonObject
    """Findings of the data check."""
    teacher: Teacher | None

    def run(self, output: str | Path, overwrite: bool, resume: bool) -> Trained:
        """Train and write the run."""
        from .machine.distributed import shared

        unfinished = Unfinished(output)
        # The folder is made first: one that cannot be written is not found after hours of training.
        with new_folder(output, overwrite, RUN_FILE) as folder:
            work = Path(folder)
            data = {**data_facts(self.dataset, work), **self.found}
            identity = self._identity(data["split_sha256"])
            shared(lambda: unfinished.open(identity, work / SPLIT_FILE, resume, overwrite))
            with _kept(unfinished, resume):
                network, spec, trained = self._fit(unfinished)
            facts = {**self._facts(network, spec, trained.best), "data": data, "decisions": unfinished.decisions}
            _write_run(work, facts, trained.rows, network, self.options)
            try:
                report_training(work, str(output), network, spec, self.dataset, trained.features, trained.rows, facts)
            except Exception as error:  # the run is whole without a page, and may have taken hours
                say(
                    f"warning: the report of the training was not written ({first_sentence(error)}); evaluate --report makes one"
                )
        unfinished.discard()
        return trained

    def follow(self, output: str | Path) -> Trained:
        """Train along with the first process."""
        from .machine.distributed import shared

        unfinished = Unfinished(output)
        shared(lambda: None)  # opened
        return self._fit(unfinished)[2]

    def _fit(self, unfinished: Unfinished) -> tuple[ImageClassifier, Preprocessing, Trained]:
        from .loop.strategy import fit
        from .machine.determinism import seeded
        from .start import start

        with seeded(self.options.seed):
            network, spec, note = start(self.options, self.dataset.labels, self.weights)
            if note:
                say(note)
            trained = fit(network, self.dataset, spec, self.options, unfinished, self.teacher)
        return network, spec, trained

    def _identity(self, split_sha256: str) -> JsonObject:
        """Return all that decides the result, as JSON has it."""
        options, images = self.options, self.teacher and self.teacher.unlabeled
        facts = {
            "options": {name: value for name, value in asdict(options).items() if name not in NO_EFFECT},
            "labels": list(self.dataset.labels),
            "data": split_sha256,
            "weights": None if self.weights is None else self.weights.facts(),
            "soft_targets": options.soft_targets and soft_targets_sha256(Path(options.soft_targets)),
            "teacher": self.teacher and self.teacher.sha256,
            "unlabeled": images and images.sha256,
            "versions": versions(),
        }
        found: JsonObject = json.loads(json.dumps(facts))
        return found

    def _facts(self, network: ImageClassifier, spec: Preprocessing, best: Row) -> JsonObject:
        from .weights.sources import is_folder, read_config

        folder = self.options.backbone if is_folder(self.options.backbone) else None
        pooling = read_config(folder)[2].get("global_pool") if folder else None
        return {
            "format": RUN_FORMAT,
            "format_version": RUN_FORMAT_VERSION,
            "labels": list(self.dataset.labels),
            "preprocessing": spec._asdict(),
            # Part of the network.
            "normalization": {"mean": list(network.mean), "std": list(network.std)},
            # A folder's name would mean nothing on another machine.
            "options": {**asdict(self.options), "backbone": network.backbone.pretrained_cfg["architecture"]},
            "weights": None if self.weights is None else self.weights.facts(),
            **({"pooling": pooling} if pooling else {}),
            **({} if network.norm_eps is None else {"norm_eps": network.norm_eps}),
            **({} if self.teacher is None else {"teacher": self.teacher.facts()}),
            "metrics": best,
            "versions": versions(),
        }


@contextlib.contextmanager
def _kept(unfinished: Unfinished, resume: bool) -> Iterator[None]:
    """If the block fails, keep what another call can resume from, and say so; resume: whether this call was to resume."""
    from .loop.fit import DivergedError

    try:
        yield
    except DivergedError:
        unfinished.discard()
        raise
    except BaseException:
        unfinished.stop(resume)
        raise


def _write_run(
    work: Path, facts: JsonObject, rows: list[dict[str, float]], network: ImageClassifier, options: TrainOptions
) -> None:
    from safetensors.torch import save

    (work / WEIGHTS_FILE).write_bytes(save(separate_tensors(network)))
    write_json(work / RUN_FILE, facts)
    _write_metrics(work / METRICS_FILE, rows)
    write_config(work / CONFIG_FILE, options, "edgeclf train DATA --output RUN")


def versions(libraries: Sequence[str] = _VERSIONED) -> dict[str, str]:
    """Return the versions of the libraries that the weights and model files depend on."""
    modules = {name: importlib.import_module(name).__version__ for name in libraries}
    return {"python": platform.python_version(), "edgeclf": __version__, **modules}


def _write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
