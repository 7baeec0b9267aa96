"""Distillation: a network learns what its teacher says, by the labels' names, also of images that have no label."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import edgeclf
from edgeclf import TrainOptions
from edgeclf.data.pixels import load_batches
from edgeclf.errors import DataError, ModelError, OptionError, OutputError
from edgeclf.graph.inference import infer_file
from edgeclf.training.distillation.teacher import read_teacher
from edgeclf.training.distillation.unlabeled import find_unlabeled
from edgeclf.training.loop.loaders import image_weights
from edgeclf.training.loop.loss import NO_TARGET, Objective, class_weights
from tests.support.training import quick, sha256
from tests.training.test_resume import stopped_after


@pytest.fixture
def images(digits, tmp_path):
    """A folder with five images that the data does not have, one that it has, a copy, and one that cannot be decoded."""
    folder = tmp_path / "unlabeled"
    (folder / "deeper").mkdir(parents=True)
    for number in range(5):
        pixels = (digits / "3" / f"{number:03d}.png").read_bytes()
        # Other bytes of the same picture: text behind the end of a PNG file.
        (folder / f"{number}.png").write_bytes(pixels + b"new")
    shutil.copy(folder / "0.png", folder / "deeper" / "copy.png")
    shutil.copy(digits / "3" / "000.png", folder / "known.png")
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n but no image")
    return folder


def test_the_loss_is_least_where_the_teacher_and_the_student_agree():
    options = TrainOptions(teacher="run", teacher_share=1.0)
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
    objective = Objective(options, 3, taught=logits.numpy())
    targets, indices = torch.tensor([2, 0]), torch.tensor([0, 1])
    assert float(objective(nn.Identity(), logits, targets, indices)) == pytest.approx(0, abs=1e-6)
    assert float(objective(nn.Identity(), logits.flip(1), targets, indices)) > 0.5


def test_the_labels_have_the_rest_of_the_loss_and_none_for_an_image_without_one():
    taught, indices = np.zeros((2, 3), np.float32), torch.tensor([0, 1])
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
    for smoothing in (0.0, 0.2):
        options = TrainOptions(teacher="run", teacher_share=1e-9, label_smoothing=smoothing)
        objective = Objective(options, 3, taught=taught)
        both, one = (
            float(objective(nn.Identity(), logits, torch.tensor(targets), indices))
            for targets in ([1, 2], [1, NO_TARGET])
        )
        usual = nn.functional.cross_entropy(
            logits, torch.tensor([1, 2]), reduction="none", label_smoothing=smoothing
        ).tolist()
        assert both == pytest.approx(sum(usual) / 2, rel=1e-5)
        assert one == pytest.approx(usual[0] / 2, rel=1e-5)


def test_images_without_a_label_do_not_count_for_the_balance_of_the_labels():
    labeled, mixed = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1, NO_TARGET, NO_TARGET])
    assert class_weights(mixed, 2).tolist() == class_weights(labeled, 2).tolist()
    assert image_weights(mixed, 2).tolist()[4:] == [1, 1]
    soft = np.vstack([np.eye(2)[labeled], np.zeros((2, 2))])
    assert image_weights(soft, 2).tolist() == image_weights(mixed, 2).tolist()


@pytest.fixture(scope="module")
def mistaken(run, tmp_path_factory):
    """A teacher that calls every 3 an 8, and every 8 a 3."""
    teacher = shutil.copytree(run, tmp_path_factory.mktemp("teacher") / "mistaken")
    facts = json.loads((teacher / "run.json").read_text())
    facts["labels"] = facts["labels"][::-1]
    (teacher / "run.json").write_text(json.dumps(facts))
    return teacher


def test_a_head_learns_what_the_teacher_says(run, mistaken, digits, tmp_path):
    options = TrainOptions(teacher_share=1.0, image_size=64, epochs=12)
    found = {}
    for teacher in (run, mistaken):
        path = tmp_path / teacher.name
        edgeclf.train(digits, path, options, teacher=str(teacher))
        found[teacher] = edgeclf.evaluate(path, digits).accuracy
    assert found[run] > 0.75
    assert found[mistaken] < 0.45


def test_the_teacher_sees_the_images_in_its_own_size_and_answers_in_the_order_of_the_data(
    run, mistaken, digits, tmp_path
):
    dataset = edgeclf.load_dataset(digits)
    paths = [sample.path for sample in dataset.split("val")]
    straight, reverse = (
        read_teacher(TrainOptions(teacher=str(path), image_size=32), dataset).logits(
            paths, tmp_path / f"{path.name}.npy", torch.device("cpu")
        )
        for path in (run, mistaken)
    )
    np.testing.assert_array_equal(straight, reverse[:, ::-1])
    batches = load_batches(paths, edgeclf.read_run(run).preprocessing, 1, "images")
    np.testing.assert_allclose(straight, infer_file(run / "model.fp32.onnx", "fp32", batches), atol=1e-3)


def test_images_without_labels_are_those_that_can_be_decoded_and_are_not_in_the_data(digits, images):
    found = find_unlabeled(images, edgeclf.load_dataset(digits))
    assert [path.name for path in found.paths] == [f"{number}.png" for number in range(5)]
    assert (found.unreadable, found.known) == (1, 2)
    assert [str(finding) for finding in found.findings()] == [
        f"warning: unreadable: 1 image of {images} left out (cannot be decoded)",
        f"warning: known: 2 images of {images} left out: the data has the same file, or it is there twice",
    ]


def test_a_folder_of_known_images_teaches_nothing(digits, tmp_path):
    shutil.copytree(digits / "3", tmp_path / "same")
    with pytest.raises(
        DataError, match=r"has no image to learn from \(60 are in the data already, 0 cannot be decoded"
    ):
        find_unlabeled(tmp_path / "same", edgeclf.load_dataset(digits))


@pytest.mark.parametrize("finetune", ["head", "full"])
def test_a_distillation_that_was_interrupted_ends_as_if_it_had_not_been(
    run, digits, images, tmp_path, monkeypatch, finetune
):
    options = quick(
        finetune=finetune, epochs=3, teacher=str(run), unlabeled=str(images), mixup=0.2, balance="sampler", workers=0
    )
    with stopped_after(monkeypatch, 1):
        edgeclf.train(digits, tmp_path / "run", options)
    edgeclf.train(digits, tmp_path / "run", options, resume=True)
    report = edgeclf.train(digits, tmp_path / "whole", options)
    assert sha256(tmp_path / "run") == sha256(tmp_path / "whole")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["teacher"]
    assert facts["run"] == str(run)
    assert facts["preprocessing"]["height"] == 64
    unlabeled = facts["unlabeled"]
    assert (unlabeled["images"], unlabeled["unreadable"], unlabeled["known"]) == (5, 1, 2)
    assert any("cannot be decoded" in text for text in report.warnings)
    assert report.images["train"] == 123  # those with labels


def test_another_teacher_or_other_images_are_refused_on_the_way(run, mistaken, digits, images, tmp_path, monkeypatch):
    teacher = shutil.copytree(run, tmp_path / "teacher")
    options = quick(teacher=str(teacher), unlabeled=str(images))
    with stopped_after(monkeypatch, 1):
        edgeclf.train(digits, tmp_path / "run", options)
    (images / "0.png").unlink()
    weights = teacher / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(OutputError, match="the teacher has changed; the images without labels have changed"):
        edgeclf.train(digits, tmp_path / "run", options, resume=True)


def test_a_teacher_of_other_labels_is_refused(run, digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    (photos / "8").rename(photos / "eight")
    with pytest.raises(
        ModelError, match="has the labels 3, 5, 8, but the data has 3, 5, eight: train a teacher on the"
    ):
        edgeclf.train(photos, tmp_path / "run", quick(teacher=str(run)))


def test_a_teacher_that_was_trained_on_evaluation_images_is_a_warning(run, digits, tmp_path):
    report = edgeclf.train(digits, tmp_path / "run", quick(teacher=str(run), seed=3))
    assert [text for text in report.warnings if "the teacher was trained on" in text]


def test_images_without_labels_need_a_teacher():
    with pytest.raises(OptionError, match="add --teacher RUN"):
        quick(unlabeled="images")
