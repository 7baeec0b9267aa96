"""Opens a run, an ONNX file or a bundle (MODEL on the command line) as a classifier.

The metadata of an exported ONNX file has its labels, its preprocessing and the split of its data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.bundle.open_bundle import MANIFEST, open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.files.schema import JsonObject, parse_json
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.base import Outputs, Runner
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

from ..data.schemas import METADATA, PROVENANCE
from ..display.progress import say
from ..errors import EdgeclfError, ModelError
from ..graph.host_form import HostRunner
from ..options import SplitOptions
from ..targets import FLAVORS, model_file
from ..training.machine.threads import torch_threads
from ..training.runs import RUN_FILE, Run, read_run, read_split_options
from .metadata import KEPT_SPLIT, METADATA_KEY, SPLIT_SHA256, WEIGHTS, weights_sha256

if TYPE_CHECKING:
    from ..training.architecture import ImageClassifier


@dataclass(frozen=True)
class OpenModel:
    """A classifier, and the options of the split of its training data.  Use it inside ``with``."""

    name: str
    classifier: Classifier
    split_options: SplitOptions | None
    run: Run | None = None
    """The run that it is, or in whose folder it is."""
    split_sha256: str = ""
    """Of a bundle or a file: the hash of its run's split.csv; "" if it is not known."""
    file: Path | None = None
    """The ONNX file; None if torch runs a run's weights."""
    kept_split: bool = False
    """True if images kept the split that another run gave them, so that ``split_options`` alone does not give theirs."""
    bundle: Path | None = None
    """The bundle that it is of."""

    def __enter__(self) -> OpenModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.classifier.close()


def open_model(
    model: str | Path, name: str | None = None, top_k: int = 5, threshold: float | None = None, at_once: int = 1
) -> OpenModel:
    """Open a run, an ONNX file or a bundle.

    name: a model of a bundle, or of a run: the name of an exported file, such as "int8-cpu", or "torch"; by default fp32, and
    torch if the run was not exported, or has other weights by now.  at_once: inferences that will run at the same time.  Raises ModelError if ``model`` is none of
    the three, or has no model of that name.
    """
    path = Path(model)
    if (path / RUN_FILE).is_file():
        run = read_run(path)
        exported = open_export(run, top_k, threshold or 0.0, at_once) if name is None else None
        if exported is not None:
            return exported
        if name in (None, "torch"):
            return _from_run(run, top_k, threshold or 0.0)
        file = model_file(name)
        if name not in ("fp32", *FLAVORS) and not (path / file).is_file():
            raise ModelError(f"a run has no model {name!r}; it has torch and, once made, fp32, {', '.join(FLAVORS)}")
        return _from_onnx(run.file(file), top_k, threshold or 0.0, at_once)
    if (path / MANIFEST).is_file():
        return _from_bundle(path, name, top_k, threshold, at_once)
    if path.is_file() and path.suffix.lower() == ".onnx":
        if name:
            raise ModelError(
                f"{path} is a single model, but {name!r} was requested; only a run or a bundle has several"
            )
        return _from_onnx(path, top_k, threshold or 0.0, at_once)
    what = "exists, but is not a model" if path.exists() else "does not exist"
    raise ModelError(f"{path} {what}: a run, an ONNX file or a bundle was expected")


class TorchRunner(Runner):
    """Runs a run's network with torch on the CPU, for comparison; not used on devices."""

    backend = "torch"

    def __init__(self, network: ImageClassifier) -> None:
        self._network = network

    def infer_outputs(self, batch: np.ndarray) -> Outputs:
        import torch

        with torch_threads(), torch.inference_mode():
            return Outputs(self._network(torch.from_numpy(batch)).numpy())


def open_export(run: Run, top_k: int = 5, threshold: float = 0.0, at_once: int = 1) -> OpenModel | None:
    """Open a run's FP32 file, which infers faster than torch; None if there is none, or if it is not of this run."""
    path = run.path / model_file("fp32")
    if not path.is_file():
        return None
    opened = _from_onnx(path, top_k, threshold, at_once)
    classifier = opened.classifier
    assert isinstance(classifier.runner, OnnxRuntimeRunner)
    facts = json.loads(classifier.runner.metadata[METADATA_KEY])
    same = (classifier.labels, classifier.preprocessing) == (run.labels, run.preprocessing)
    if same and facts.get(WEIGHTS) in (None, weights_sha256(run)):
        return opened
    opened.__exit__()
    say(
        f"{path} was not exported from this run's weights and is ignored; make it again with: edgeclf export {run.path} --overwrite"
    )
    return None


def _from_run(run: Run, top_k: int, threshold: float) -> OpenModel:
    runner = TorchRunner(run.network())
    return OpenModel(
        "torch",
        Classifier(runner, run.labels, run.preprocessing, "torch", 1.0, threshold, top_k),
        run.split_options,
        run,
    )


def _from_onnx(path: Path, top_k: int, threshold: float, at_once: int) -> OpenModel:
    threads = 1 if at_once > 1 else None
    runner = OnnxRuntimeRunner(path, threads=threads)
    try:
        facts: JsonObject = parse_json(runner.metadata[METADATA_KEY].encode())
        METADATA(facts, "")
        spec, split = Preprocessing(**facts["preprocessing"]).check(), read_split_options(facts["split"])
        name, labels, split_sha256 = facts["model"], facts["labels"], str(facts.get(SPLIT_SHA256, ""))
    except (KeyError, ValueError, EdgeclfError) as error:
        runner.close()
        reason = "there is none" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"{path} has no valid metadata about its labels and preprocessing ({reason}); "
            "export it with: edgeclf export RUN"
        ) from None
    if name in FLAVORS:
        runner.close()
        runner = HostRunner(path, threads=threads, name=name)
    run = read_run(path.parent) if (path.parent / RUN_FILE).is_file() else None
    return OpenModel(
        name,
        Classifier(runner, labels, spec, name, 1.0, threshold, top_k),
        split,
        run,
        split_sha256,
        path,
        bool(facts.get(KEPT_SPLIT)),
    )


def _from_bundle(path: Path, name: str | None, top_k: int, threshold: float | None, at_once: int) -> OpenModel:
    bundle = open_bundle(path)
    try:
        PROVENANCE(bundle.provenance, "provenance")
    except ValueError as error:
        raise ModelError(f"{path}: manifest.json: {error}; make the bundle again") from None
    classifier = Classifier.open(bundle, name, top_k=top_k, threshold=threshold, at_once=at_once)
    data, files = bundle.provenance["data"], {model.name: model.file for model in bundle.models}
    return OpenModel(
        classifier.model,
        classifier,
        read_split_options(data["split"]),
        None,
        str(data.get("split_sha256", "")),
        path / files[classifier.model],
        bool(data.get(KEPT_SPLIT)),
        path,
    )
