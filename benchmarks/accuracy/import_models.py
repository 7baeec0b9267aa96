"""Compares imported models with the libraries that trained them: logits, and the accuracy that INT8 costs.

    python3 benchmarks/accuracy/import_models.py --json >import_models.json

Method: scikit-learn's handwritten digits, 64 x 64, each tinted at random, are the data; 10 labels, split by edgeclf.  Each
library trains its own small classifier from random weights for a few epochs, with a fixed seed, and exports it in its own
way.  ``edgeclf.import_model`` gets that file and the images; what ultralytics states in its metadata is not repeated.  The
run is quantized and bundled.  Then every test image, preprocessed once, goes through the bundle's FP32 model and through the
library that trained it, whose softmax is left out: the row has the largest difference of a logit, and the accuracy of both.
The agreement of the INT8 files with FP32 is that of ``edgeclf quantize``, on its evaluation images.  A library that is not
installed has its reason in its row: python3 -m pip install ultralytics torchvision onnxscript tensorflow-cpu tf2onnx
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speed"))

import edgeclf
from edgeclf_runtime.device.machine import machine_facts

SIZE, LABELS = 64, tuple("0123456789")
FLAVORS = ("int8-cpu", "int8-arm", "int8-tensorrt")
MOST_DIFFERENCE, LEAST_AGREEMENT = 1e-3, 0.98
Logits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Trained:
    """A model of another library: what to import, with which options, and its own logits of a batch of pixels."""

    model: Any
    options: dict[str, Any]
    logits: Logits
    """From float32 [1, height, width, 3], RGB, values 0 to 255."""


def main() -> None:
    """Train, import, quantize, bundle and compare each library's model, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(LIBRARIES), action="append", help="may be repeated (all)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=180, help="of each digit, at most (180)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep the models here")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        work = arguments.work or Path(folder)
        write_digits(work / "digits", arguments.images)
        with contextlib.redirect_stdout(sys.stderr):  # libraries report their training there
            rows = [measure(name, work, arguments.epochs) for name in arguments.only or LIBRARIES]
    report = {"benchmark": "import_models", "epochs": arguments.epochs, "rows": rows}
    print(json.dumps({**report, "machine": machine_facts()}) if arguments.json else table(rows))


def write_digits(folder: Path, most: int) -> None:
    """Write scikit-learn's digits as class folders of at most so many tinted images."""
    import cv2
    from sklearn.datasets import load_digits

    if folder.exists():
        return
    digits, random = load_digits(), np.random.default_rng(0)
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        image = cv2.resize((pixels * 15.9).astype(np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        tinted = (image[..., None] * random.uniform(0.5, 1, 3)).astype(np.uint8)
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        if len(os.listdir(folder / str(digit))) == most:
            continue
        cv2.imwrite(str(folder / str(digit) / f"{number:04d}.png"), tinted)


def measure(name: str, work: Path, epochs: int) -> dict[str, Any]:
    """Return the row of one library."""
    from edgeclf_runtime import Classifier

    try:
        trained = LIBRARIES[name](work, epochs)
    except ImportError as error:
        return {"name": name, "reason": str(error)}
    digits, run, packed = work / "digits", work / f"{name}-run", work / f"{name}.edge"
    given = edgeclf.ImportOptions(**trained.options)
    imported = edgeclf.import_model(trained.model, run, given, overwrite=True, data=digits)
    quantized = edgeclf.quantize(run, edgeclf.QuantizeOptions(flavors=FLAVORS), overwrite=True)
    edgeclf.bundle(run, packed, overwrite=True)
    with Classifier.open(packed, "fp32") as classifier:
        found, own, truth = compare(run, classifier.runner.infer, trained.logits)
    return {
        "name": name,
        "images": len(truth),
        "compared_at_import": imported.largest_difference,
        "removed": imported.removed,
        "difference": float(np.abs(found - own).max()),
        "accuracy": float((found.argmax(1) == truth).mean()),
        "accuracy_there": float((own.argmax(1) == truth).mean()),
        "agreement": {file.name: file.comparison.agreement for file in quantized.files},
        "drop": {file.name: file.comparison.drop for file in quantized.files},
    }


def compare(run: Path, here: Logits, there: Logits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both logits of the test images, and the indices of their labels."""
    from edgeclf.data.pixels import load_batches

    opened = edgeclf.read_run(run)
    samples = opened.dataset().split("test")
    batches = list(load_batches([sample.path for sample in samples], opened.preprocessing, 1, "comparing"))
    truth = np.array([opened.labels.index(sample.label) for sample in samples])
    found, own = (np.concatenate([one(batch) for batch in batches]) for one in (here, there))
    return found, own, truth


def training_images(work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of the training images, uint8 [images, height, width, 3] RGB, and their labels' indices."""
    import cv2

    samples = edgeclf.load_dataset(work / "digits").split("train")
    pixels = [cv2.cvtColor(cv2.imread(str(sample.path)), cv2.COLOR_BGR2RGB) for sample in samples]
    return np.stack(pixels), np.array([LABELS.index(sample.label) for sample in samples])


def _batches(count: int, epochs: int, size: int = 32) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    for _ in range(epochs):
        order = random.permutation(count)
        yield from (order[first : first + size] for first in range(0, count - size + 1, size))


def _torchvision(work: Path, epochs: int) -> tuple[Any, Logits, dict[str, Any]]:
    import torch
    import torchvision

    torch.manual_seed(0)
    pixels, truth = training_images(work)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    model = torchvision.models.resnet18(num_classes=len(LABELS)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def normalized(batch: np.ndarray) -> torch.Tensor:
        return ((torch.from_numpy(batch).float() / 255 - mean) / std).permute(0, 3, 1, 2)

    for chosen in _batches(len(truth), epochs):
        loss = torch.nn.functional.cross_entropy(model(normalized(pixels[chosen])), torch.from_numpy(truth[chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()

    def logits(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(normalized(batch)).numpy())

    options = {"label_names": LABELS, "color": "RGB", "range": "0-1", "mean": "imagenet", "std": "imagenet"}
    return model, logits, {**options, "resize": "crop", "size": str(SIZE)}


def torchvision_module(work: Path, epochs: int) -> Trained:
    """ResNet-18 of torchvision, given as a torch module."""
    model, logits, options = _torchvision(work, epochs)
    return Trained(model, options, logits)


def torchvision_onnx(work: Path, epochs: int) -> Trained:
    """The same ResNet-18, as torch's present exporter writes it, with opset 18 and external data if it can be installed."""
    import onnxscript  # noqa: F401 - that exporter needs it
    import torch

    model, logits, options = _torchvision(work, epochs)
    path = work / "resnet18.onnx"
    torch.onnx.export(model, (torch.zeros(1, 3, SIZE, SIZE),), str(path), dynamo=True, verbose=False)
    return Trained(path, options, logits)


def ultralytics_onnx(work: Path, epochs: int) -> Trained:
    """The small classifier of ultralytics, trained and exported by itself; its metadata states everything."""
    import torch
    from frame_contenders import import_ultralytics

    dataset = edgeclf.load_dataset(work / "digits")
    folder = work / "ultralytics-digits"
    for sample in dataset.samples if not folder.exists() else ():
        target = folder / sample.split / sample.label / sample.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(sample.path, target)
    model = import_ultralytics(work).YOLO("yolo11n-cls.yaml", task="classify")
    facts: dict[str, Any] = {"data": str(folder), "epochs": 2 * epochs, "imgsz": SIZE, "batch": 32, "seed": 0}
    # Digits are few, and mirrored or in pieces they are others.
    facts.update(optimizer="AdamW", lr0=0.003, warmup_epochs=1, fliplr=0.0, erasing=0.0, auto_augment=None)
    facts.update(amp=False, plots=False, workers=0, device="cpu")
    model.train(**facts, project=str(work), name="ultralytics", exist_ok=True, verbose=False)
    trained = work / "ultralytics" / "weights" / "last.pt"
    path = import_ultralytics(work).YOLO(str(trained)).export(format="onnx", imgsz=SIZE, simplify=False, verbose=False)
    network = import_ultralytics(work).YOLO(str(trained)).model.float().eval()

    def logits(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = network(torch.from_numpy(batch / np.float32(255)).permute(0, 3, 1, 2))
        return np.asarray(found[1].numpy())  # the first are probabilities

    return Trained(path, {}, logits)


def keras_onnx(work: Path, epochs: int) -> Trained:
    """MobileNet of Keras on TensorFlow, a quarter as wide, with its softmax, by its own ONNX export."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tf2onnx  # noqa: F401 - the export needs it

    keras.utils.set_random_seed(0)
    pixels, truth = training_images(work)
    model = keras.applications.MobileNet((SIZE, SIZE, 3), alpha=0.25, weights=None, classes=len(LABELS), dropout=0.0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # 0.99 would need more steps than there are
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(pixels.astype(np.float32) / 127.5 - 1, truth, batch_size=32, epochs=2 * epochs, verbose=0)
    path = work / "keras.onnx"
    model.export(str(path), format="onnx", verbose=False)
    before = keras.Model(model.input, model.layers[-2].output)

    def logits(batch: np.ndarray) -> np.ndarray:
        return np.asarray(before(batch / np.float32(127.5) - 1, training=False))

    options = {"label_names": LABELS, "color": "RGB", "range": "-1..1", "mean": "0", "std": "1", "resize": "crop"}
    return Trained(path, {**options, "size": str(SIZE)}, logits)


LIBRARIES: dict[str, Callable[[Path, int], Trained]] = {
    "torchvision-module": torchvision_module,
    "torchvision-onnx": torchvision_onnx,
    "ultralytics-onnx": ultralytics_onnx,
    "keras-onnx": keras_onnx,
}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [f"{'model':<20}{'difference':>12}{'accuracy':>10}{'there':>8}" + "".join(f"{one:>15}" for one in FLAVORS)]
    for row in rows:
        if "reason" in row:
            lines.append(f"{row['name']:<20}  not measured: {row['reason']}")
            continue
        agreement = "".join(f"{row['agreement'][one]:>15.4f}" for one in FLAVORS)
        figures = f"{row['difference']:>12.1e}{row['accuracy']:>10.4f}{row['accuracy_there']:>8.4f}"
        lines.append(f"{row['name']:<20}{figures}{agreement}")
    lines.append(
        f"difference: of a logit from its own library, at most {MOST_DIFFERENCE} wanted; last columns: agreement of INT8 with "
        f"FP32, at least {LEAST_AGREEMENT} wanted"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
