"""A results folder: its figures are scikit-learn's, its page is safe and small whatever the labels, and its images are the right ones."""

import base64
import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, classification_report
from torch import nn

from edgeclf.training.architecture import ImageClassifier
from edgeclf.training.backbones import create
from edgeclf.training.results.drawings import history_charts
from edgeclf.training.results.figures import figures_of, verdict
from edgeclf.training.results.folder import write_results
from edgeclf.training.results.gallery import NO_MAPS, NO_NETWORK, worst_errors
from edgeclf.training.results.heat_maps import heat_maps
from edgeclf.training.results.learning_curve import learning_curve
from edgeclf.training.results.subject import Subject, Suspect
from edgeclf_runtime.images.preprocess import Preprocessing
from tests.support.html_pages import OUTSIDE, Page
from tests.support.photos import picture, write_picture

MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs of noise, the worst case for their size in a page."""
    root = tmp_path_factory.mktemp("photos")
    return [write_picture(root / f"{number:02d}.png", picture(number, 160, 120)) for number in range(30)]


def subject_of(photos, labels, images=60, margin=2.0, without=(), **fields):
    """Return a subject whose logits are noise, with a margin for the true label."""
    random = np.random.default_rng(0)
    truth = random.choice([number for number in range(len(labels)) if number not in without], images)
    logits = random.normal(size=(images, len(labels))).astype(np.float32)
    logits[np.arange(images), truth] += margin
    paths = [photos[number % len(photos)] for number in range(images)]
    about = {"title": "Evaluation of runs/first", "model": "fp32", "data": "photos", "split": "test"}
    common = {**about, "root": photos[0].parent, "preprocessing": Preprocessing(96, 96)}
    return Subject(**{**common, "labels": labels, "truth": truth, "logits": logits, "paths": paths, **fields})


def written(subject, folder):
    """Write a results folder and return its page and its JSON."""
    write_results(folder, subject)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert OUTSIDE.findall(text.replace("onerror=", "")) == []
    assert len(text) < MOST_BYTES

    def refuse(name):
        raise ValueError(name)

    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    return Page(text), facts


def test_the_figures_are_those_of_scikit_learn(photos):
    subject = subject_of(photos, ("cat", "dog", "emu"), images=200)
    found = figures_of(subject.labels, subject.truth, subject.logits)
    expected = classification_report(
        subject.truth, subject.logits.argmax(1), target_names=subject.labels, output_dict=True
    )
    for row in found.labels:
        theirs = expected[row.label]
        figures = (row.precision, row.recall, row.f1, row.images)
        assert figures == pytest.approx([theirs[name] for name in ("precision", "recall", "f1-score", "support")])
    assert (found.accuracy, found.macro_f1) == pytest.approx((expected["accuracy"], expected["macro avg"]["f1-score"]))
    scores = torch.from_numpy(subject.logits).softmax(1).numpy()
    for curve in found.curves:
        index = subject.labels.index(curve.label)
        theirs = average_precision_score(subject.truth == index, scores[:, index])
        assert curve.average_precision == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        (
            [0] * 30 + [1] * 30,
            [0] * 30 + [0] * 15 + [1] * 15,
            "75.0% of 60 images are right (95% interval 62.8% to 84.2%); the worst label is dog, with 50.0% of its 30 images right.",
        ),
        (
            [0] * 30 + [1] * 5,
            [0] * 35,
            "85.7% of 35 images are right (95% interval 70.6% to 93.7%); 1 label (dog) has fewer than 20 images, too few to name the worst.",
        ),
        (
            [0, 1],
            [0, 1],
            "100.0% of 2 images are right (95% interval 34.2% to 100.0%); every label has fewer than 20 images, too few to name the worst.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(truth, predicted, expected):
    found = figures_of(("cat", "dog"), np.array(truth), 9 * np.eye(2, dtype=np.float32)[predicted])
    assert verdict(found) == expected


def test_labels_and_names_that_are_markup_are_shown_as_they_are(photos, tmp_path):
    labels = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "été\n\x07")
    subject = subject_of(
        photos,
        labels,
        warnings=["warning: <b>bold</b>"],
        suspects=[Suspect(photos[0], labels[0], labels[1], 0.9)],
        facts={"options": {"<i>": None}},
    )
    page, facts = written(subject, tmp_path)
    assert {*labels[:3], "été\ufffd\ufffd", "<i>"} <= {row[0] for row in page.rows}
    assert "<b>bold</b>" in page.words
    assert [row["label"] for row in facts["per_label"]] == list(labels)


def test_a_name_that_is_no_valid_text_does_not_stop_the_report(photos, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(photos[0].parent) + b"/\xff.png"))
    odd.write_bytes(photos[0].read_bytes())
    subject = subject_of(photos, ("a", "b"), margin=-9, suspects=[Suspect(odd, "a", "b", 0.9)])
    page, facts = written(replace(subject, paths=[odd] * 60), tmp_path)
    assert "\ufffd.png" in page.words
    assert os.fsencode(facts["suspects"][0]["path"]) == b"\xff.png"
    assert len(list(csv.DictReader((tmp_path / "predictions.csv").open()))) == 60


def test_of_400_labels_the_worst_and_a_picture_of_the_matrix_are_shown(photos, tmp_path):
    labels = tuple(f"species {number}" for number in range(400))
    page, facts = written(subject_of(photos, labels, 2000, margin=4, without=(7,)), tmp_path)
    names = [row[0] for row in page.rows if len(row) == 6 and row[0].startswith("species")]
    assert sorted(names) == sorted(labels)
    recalls = {row["label"]: row["recall"] for row in facts["per_label"]}
    shown = [recalls[name] for name in names]
    known = sorted(value for value in shown if value is not None)
    assert shown == known + [None] * (400 - len(known))
    matrix = cv2.imdecode(np.frombuffer(base64.b64decode(page.images[0].partition(",")[2]), np.uint8), -1)
    assert matrix.shape == (400, 400, 4)
    assert f"{len(known)} with images" in page.words
    confused = sum(row["images"] for row in facts["confusions"])
    assert confused == round(2000 * (1 - facts["accuracy"]))


@pytest.mark.parametrize("labels", [("a",), ("a", "b", "c")])
def test_what_cannot_be_said_is_left_out(photos, tmp_path, labels):
    subject = subject_of(photos, labels, without=(2,), margin=50)
    page, facts = written(subject, tmp_path)
    assert "No image was confused" in page.words
    assert "most confident errors" not in page.words
    if len(labels) == 3:
        assert ["c", "-", "-", "-", "-", "0 (few)"] in page.rows
        assert facts["per_label"][2]["recall"] is None


def test_logits_that_are_not_finite_are_reported_without_confidences(photos, tmp_path):
    subject = subject_of(photos, ("a", "b"), history=[{"epoch": 0, "loss": 0.5}, {"epoch": 1, "loss": float("nan")}])
    subject.logits[3, 0] = np.nan
    page, facts = written(subject, tmp_path)
    assert "Some logits are not finite" in page.words
    assert "nan" not in page.words
    assert (facts["calibration_error"], facts["history"][1]["loss"]) == (None, None)


def test_the_most_confident_errors_come_first_and_a_lost_image_is_named(photos, tmp_path):
    subject = subject_of(photos, ("a", "b"), margin=-3.0)
    gone = photos[0].parent / "gone.png"
    errors, reason = worst_errors(replace(subject, paths=[gone] * 60))
    assert reason == NO_NETWORK
    assert [one.confidence for one in errors] == sorted((one.confidence for one in errors), reverse=True)
    assert {(one.name, one.picture) for one in errors} == {("gone.png", "")}
    page, _ = written(replace(subject, paths=[gone] * 60), tmp_path)
    assert "the image cannot be read any more" in page.words


class Bright(nn.Module):
    """A backbone whose only map is how bright each patch of 8 pixels is, which the second label likes."""

    num_features = 1

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))

    def forward_features(self, image):
        return nn.functional.avg_pool2d(image.mean(1, keepdim=True).relu(), 8)

    def forward_head(self, maps):
        return self.head(maps.mean((2, 3)))


def test_a_heat_map_is_warm_where_the_answer_comes_from():
    images = np.zeros((2, 64, 64, 3), np.uint8)
    images[0, 8:16, 40:48] = images[1, 48:56, 16:24] = 255
    heat = heat_maps(ImageClassifier(Bright(), (0.0,) * 3, (1.0,) * 3), images, np.array([1, 1]))
    assert heat.shape == (2, 8, 8)
    assert [np.unravel_index(one.argmax(), one.shape) for one in heat] == [(1, 5), (6, 2)]
    assert heat.max() == 1
    assert (heat > 0).sum() == 2


@pytest.mark.parametrize(
    ("backbone", "size", "shape"),
    [
        ("mobilenetv3_small_050", 64, (1, 2, 2)),
        pytest.param("swin_tiny_patch4_window7_224", 224, (1, 7, 7), marks=pytest.mark.slow),
        pytest.param("mixer_s32_224", 224, (1, 7, 7), marks=pytest.mark.slow),
        # Its head reads only the class token.
        ("vit_tiny_patch16_224", 224, None),
    ],
)
def test_a_backbone_has_heat_maps_if_its_head_reads_maps(backbone, size, shape):
    torch.manual_seed(0)
    heat = heat_maps(create(backbone, 3), picture(0, size, size)[None], np.array([1]))
    assert (None if heat is None else heat.shape) == shape


def test_errors_have_heat_maps_if_there_is_a_network(photos, tmp_path):
    subject = subject_of(photos, ("a", "b"), margin=-3.0)
    network = ImageClassifier(Bright(), (0.0,) * 3, (1.0,) * 3)
    plain, _ = written(subject, tmp_path)
    page, _ = written(replace(subject, network=network), tmp_path)
    assert len(page.images) - len(plain.images) in range(1, 13)
    assert "Grad-CAM" in page.words
    assert NO_NETWORK in plain.words
    assert NO_MAPS not in page.words


def features_of(images, random, useful=40):
    """Return features of two labels, each of them a little informative: the more images, the better a head."""
    targets = np.arange(images) % 2
    values = random.normal(size=(images, useful)).astype(np.float32)
    return values + 0.25 * (2 * targets[:, None] - 1).astype(np.float32), targets


def test_the_learning_curve_expects_more_of_twice_the_images_if_more_have_helped():
    random = np.random.default_rng(0)
    (train, train_truth), (val, val_truth) = features_of(320, random), features_of(600, random)
    curve = learning_curve({"train": train, "val": val}, {"train": train_truth, "val": val_truth})
    assert [step.images for step in curve.steps] == [40, 80, 160, 320]
    accuracies = [step.accuracy for step in curve.steps]
    assert accuracies == sorted(accuracies)
    assert curve.doubled == 640
    assert 0 < curve.interval[0] < curve.gain < curve.interval[1]
    more, more_truth = features_of(640, np.random.default_rng(1))
    twice = learning_curve({"train": more, "val": val}, {"train": more_truth, "val": val_truth})
    assert twice.steps[-1].accuracy - curve.steps[-1].accuracy == pytest.approx(curve.gain, abs=0.03)


def test_the_learning_curve_expects_nothing_of_labels_that_say_nothing():
    random = np.random.default_rng(0)
    features = {split: random.normal(size=(400, 20)).astype(np.float32) for split in ("train", "val")}
    curve = learning_curve(features, {split: random.integers(0, 2, 400) for split in ("train", "val")})
    assert curve.interval[0] < 0 < curve.interval[1]
    assert "perhaps no effect" in curve.sentence()


def test_few_images_have_no_learning_curve():
    features = {split: np.zeros((100, 4), np.float32) for split in ("train", "val")}
    assert learning_curve(features, {split: np.arange(100) % 2 for split in ("train", "val")}) is None


def test_a_page_with_a_learning_curve_says_what_it_expects(photos, tmp_path):
    random = np.random.default_rng(0)
    (train, train_truth), (val, val_truth) = features_of(320, random), features_of(300, random)
    curve = learning_curve({"train": train, "val": val}, {"train": train_truth, "val": val_truth})
    page, facts = written(subject_of(photos, ("a", "b"), curve=curve), tmp_path)
    assert curve.sentence() in page.words
    assert facts["learning_curve"]["gain"] == curve.gain


def test_a_steady_accuracy_is_drawn_as_steady_and_the_kept_epoch_is_marked():
    rows = [{"epoch": epoch, "loss": 1 / (epoch + 1), "val_loss": 0.5, "val_accuracy": 0.9} for epoch in range(3)]
    loss, accuracy = history_charts(rows, best=1)
    assert accuracy.y.high - accuracy.y.low >= 0.1
    assert [rule.x for rule in loss.rules] == [1]
    assert "epoch 1, which was kept" in loss.note
    assert history_charts(rows[:1]) == []
