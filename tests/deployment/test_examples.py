from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import edgeclf
from edgeclf.data.datasets import Sample
from edgeclf.deployment.examples import MOST_BYTES_TOGETHER, write_examples
from edgeclf.deployment.training_images import training_images
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf_runtime.bundle.examples import examples_of
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.commands.info import info
from edgeclf_runtime.images.preprocess import Preprocessing
from tests.support.pictures import noise


def images(tmp_path, pixels, labels, color="RGB"):
    """An EvaluationSet of decoded images, and a summary whose points name each of them."""
    samples = [Sample(tmp_path / str(number), label, "train") for number, label in enumerate(labels)]
    names = tuple(sorted(set(labels)))
    spec = Preprocessing(*pixels[0].shape[:2], color=color)
    points = {"images": np.arange(len(labels)), "labels": np.array([names.index(label) for label in labels])}
    return EvaluationSet(samples, names, spec, pixels=pixels), SimpleNamespace(arrays=points)


def written(folder):
    return {int(path.stem): path.read_bytes() for path in folder.glob("examples/*.jpg")}


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_an_example_has_the_colors_and_the_shape_of_its_image_and_is_small(tmp_path, color):
    red = np.zeros((100, 200, 3), np.uint8)
    red[:, :, color.index("R")] = 220
    write_examples(tmp_path, *images(tmp_path, [red], ["apple"], color))
    (picture,) = (decoded(data) for data in written(tmp_path).values())
    assert picture.shape == (48, 96, 3)
    blue, green, reds = picture.mean((0, 1))
    assert reds > 200 > 20 > max(blue, green)


def test_examples_keep_their_limit_and_leave_out_as_many_of_each_label(tmp_path):
    labels = [f"{number % 4}" for number in range(1000)] + ["rare"] * 3
    notes = write_examples(tmp_path, *images(tmp_path, [noise(96, 96)] * len(labels), labels))
    found = written(tmp_path)
    assert 0.9 * MOST_BYTES_TOGETHER < sum(map(len, found.values())) <= MOST_BYTES_TOGETHER
    counts = [sum(labels[number] == label for number in found) for label in ("0", "1", "2", "3", "rare")]
    assert max(counts[:4]) - min(counts[:4]) <= 1
    assert counts[4] == 3
    left = f"; {len(labels) - len(found)} others are left out, to keep them below 512 KB"
    assert notes == [f"{len(found)} small training images are in the bundle, as examples{left}"]


def test_without_a_summary_there_are_no_examples_and_a_sentence_says_so(tmp_path):
    training, _ = images(tmp_path, [noise(64, 64)], ["cat"])
    assert write_examples(tmp_path, training, None) == [
        "there are no examples, since no model tells the distance from the training images"
    ]
    assert not (tmp_path / "examples").exists()


@pytest.mark.slow
def test_an_example_is_the_training_image_whose_number_a_result_has(run, tmp_path):
    options = edgeclf.BundleOptions(targets=("x86-cpu",), keep=0.9, golden=4, examples=True)
    report = edgeclf.bundle(run, tmp_path / "shown.edge", options)
    opened = open_bundle(tmp_path / "shown.edge")
    examples = examples_of(opened)
    opened_run = edgeclf.read_run(run)
    training, _ = training_images(opened_run, opened_run.dataset())
    pixels = list(training.pixels())
    with Classifier.open(opened, "fp32", "onnxruntime") as classifier:
        near = classifier.classify(noise(64, 64)).nearest
    for one in near:
        assert training.labels[training.truth[one.image]] == one.label
        different = np.abs(decoded(examples[one.image].read()).astype(int) - pixels[one.image][:, :, ::-1])
        assert different.mean() < 8 < np.abs(pixels[one.image].astype(int) - pixels[one.image - 1]).mean()
    said = f"{len(examples)} small training images"
    assert [note for note in report.notes if note.startswith(f"{said} are in the bundle, as examples")]
    assert f"{said}, which the live page shows" in str(info(opened.path))
    again = edgeclf.bundle(run, tmp_path / "again" / "shown.edge", options)
    assert again.id == report.id
