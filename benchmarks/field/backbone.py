"""The real network of field.py: the default backbone's pretrained features, and a linear layer that was fitted to them.

Confidences and distances are the network's.  Its labels are not: on so few and small images it is right for 68 to 80 %, less than networks
that are in use, and a mix of labels is noticed the later the more of them are wrong.  Labels are the true ones, but for ERRORS.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from world import Network, Pool

from edgeclf.deployment.health_baseline import UsualResults, usual_results
from edgeclf.evaluation.confidence_threshold import fit_confidence
from edgeclf.evaluation.rejection.distance_threshold import fit_distance_threshold
from edgeclf.evaluation.rejection.known_images import fit_known_images
from edgeclf.training.backbones import create
from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.results import USUAL

BACKBONE = "tf_efficientnet_lite0"
ERRORS = 0.08
"""Share of labels that are wrong."""


class Backbone(Network):
    """The backbone: features, float32 [N, 1280], of images, uint8 [N, side, side, 3] RGB."""

    def __init__(self) -> None:
        torch.set_num_threads(1)  # batches are small
        self._network = create(BACKBONE, 2, "imagenet").eval()

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the features of images."""
        with torch.inference_mode():
            found: np.ndarray = self._network.features(torch.from_numpy(images.astype(np.float32))).numpy()
        return found


class Head:
    """The linear layer, and the statistics that ``bundle`` fits to training and validation images.

    usual           UsualResults of the validation images
    usual_distance  their usual distance
    accuracy        on validation images
    """

    def __init__(self, train: Pool, validation: Pool) -> None:
        features, truth = train.flat()
        self._scale = features.std(0) + 1e-6
        self._layer = LogisticRegression(C=0.1, max_iter=300).fit(features / self._scale, truth)
        held_out, held_truth = validation.flat()
        logits = self._logits(held_out)
        self._temperature = fit_confidence(logits, held_truth).temperature
        self._known = fit_known_images(features, truth, held_out, logits)
        self._centers = np.array([self._places(features[truth == one]).mean(0) for one in range(truth.max() + 1)])
        self._random = np.random.default_rng(0)
        shares = np.bincount(self._labels(held_truth), minlength=logits.shape[1]) / len(held_truth)
        self.usual: UsualResults = replace(usual_results(logits, self._temperature), labels=tuple(shares.tolist()))
        self.usual_distance = fit_distance_threshold(self._known.distance(held_out, logits), USUAL).threshold
        self.accuracy = float((logits.argmax(1) == held_truth).mean())

    def _logits(self, features: np.ndarray) -> np.ndarray:
        logits = self._layer.decision_function(features / self._scale)
        both = logits if logits.ndim == 2 else np.stack([-logits / 2, logits / 2], 1)
        return both.astype(np.float32)

    def _labels(self, truth: np.ndarray, known: bool = True) -> np.ndarray:
        wrong = self._random.random(len(truth)) < (ERRORS if known else 1)
        found: np.ndarray = np.where(wrong, self._random.integers(len(self._centers), size=len(truth)), truth)
        return found

    def classify(self, pool: Pool, known: bool = True) -> Pool:
        """Fill in a pool's predicted labels, confidences and distances; known: whether its labels are those of training."""
        features, truth = pool.flat()
        logits, shape = self._logits(features), pool.values.shape[:2]
        pool.predicted = self._labels(truth, known).reshape(shape)
        pool.score = softmax(logits / self._temperature).max(1).reshape(shape)
        pool.distance = self._known.distance(features, logits).reshape(shape)
        return pool

    def off_center(self, pool: Pool, light: int) -> np.ndarray:
        """Return each object's features, less the center of its predicted label, in the coordinates of the distance, [objects, dimensions]."""
        assert pool.predicted is not None
        off: np.ndarray = self._places(pool.features[:, light]) - self._centers[pool.predicted[:, light]]
        return off

    def _places(self, features: np.ndarray) -> np.ndarray:
        arrays = self._known.arrays
        rows = features / np.linalg.norm(features, axis=1, keepdims=True)
        places: np.ndarray = (rows - arrays["mean"]) @ arrays["directions"].astype(np.float32) @ arrays["within"]
        return places
