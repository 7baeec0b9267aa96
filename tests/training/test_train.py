"""Training: same seed, same run; one pass per image through a frozen backbone; nothing half done is left behind."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import edgeclf
from edgeclf import TrainOptions
from edgeclf.display.progress import show_progress
from edgeclf.errors import DataError, ImageError, OptionError, OutputError
from edgeclf.evaluation.open_model import open_model
from edgeclf.graph import inference
from edgeclf.options import AugmentationOptions
from edgeclf.training import train
from edgeclf.training.augmentation import augmentation
from edgeclf.training.backbones import create
from edgeclf.training.loop import strategy
from edgeclf.training.loop.fit import Fit, Plan
from edgeclf.training.loop.head import fit_head
from edgeclf.training.loop.loaders import Draw, Images
from edgeclf.training.loop.network import Pictures, fit_network
from edgeclf.training.runs import read_run
from edgeclf_runtime.images.preprocess import Preprocessing
from tests.support.training import SMALL, quick, sha256


@pytest.fixture(scope="module")
def small(digits, tmp_path_factory):
    """A small run of a frozen backbone."""
    path = tmp_path_factory.mktemp("training") / "small"
    edgeclf.train(digits, path, quick())
    return path


@pytest.fixture(scope="module")
def full(digits, tmp_path_factory):
    """The same run, every layer of it trained for one epoch."""
    path = tmp_path_factory.mktemp("training") / "full"
    edgeclf.train(digits, path, quick(finetune="full", epochs=1))
    return path


@pytest.mark.slow
def test_others_may_read_a_run_as_far_as_the_umask_lets_them(small):
    modes = {path.stat().st_mode for path in small.iterdir()}
    assert len(modes) == 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_split(small, digits, tmp_path):
    edgeclf.train(digits, tmp_path / "again", quick())
    assert sha256(tmp_path / "again") == sha256(small)
    assert (tmp_path / "again" / "split.csv").read_bytes() == (small / "split.csv").read_bytes()


def test_another_seed_gives_another_head_and_split(small, digits, tmp_path):
    edgeclf.train(digits, tmp_path / "other", quick(seed=1))
    assert sha256(tmp_path / "other") != sha256(small)
    assert (tmp_path / "other" / "split.csv").read_bytes() != (small / "split.csv").read_bytes()


@pytest.mark.slow
def test_full_fine_tuning_is_reproducible_too(full, digits, tmp_path):
    edgeclf.train(digits, tmp_path / "again", quick(finetune="full", epochs=1))
    assert sha256(tmp_path / "again") == sha256(full)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes the images in batches")
def test_each_image_goes_through_the_frozen_backbone_once(digits, tmp_path, monkeypatch):
    seen = []

    class Counting(inference.HostRunner):
        def infer(self, batch):
            seen.extend(hashlib.sha256(image.tobytes()).hexdigest() for image in batch)
            return super().infer(batch)

    monkeypatch.setattr(inference, "HostRunner", Counting)
    report = edgeclf.train(digits, tmp_path / "run", quick(epochs=5))
    assert len(seen) == report.images["train"] + report.images["val"] == 138
    assert len(set(seen)) == 138


@pytest.mark.slow
def test_what_a_run_held_out_is_found_again_after_the_data_has_grown(digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos", ignore=lambda folder, names: sorted(names)[40:])
    edgeclf.train(photos, tmp_path / "run", quick(epochs=1, group_by=r"(\d\d)\.png$"))
    before = read_run(tmp_path / "run").dataset()
    shutil.copytree(digits, photos, dirs_exist_ok=True)
    with open_model(tmp_path / "run") as opened:
        after = edgeclf.load_dataset(photos, opened.split_options)
    assert len(after.samples) > len(before.samples)
    sides = {sample.path: sample.split for sample in after.samples}
    assert all(sides[sample.path.resolve()] == sample.split for sample in before.samples)
    assert edgeclf.evaluate(tmp_path / "run", photos).images == after.counts()["test"]


def test_a_frozen_backbone_stays_as_it_was_and_its_head_learns(digits, usual_run):
    trained, start = (
        load_file(usual_run / "model.safetensors"),
        create("tf_efficientnet_lite0", 3, "imagenet").state_dict(),
    )
    changed = {name for name, tensor in trained.items() if not torch.equal(tensor, start[name])}
    assert changed == {"backbone.classifier.weight", "backbone.classifier.bias"}
    assert edgeclf.evaluate(usual_run / "model.fp32.onnx", digits).accuracy > 0.8


def test_full_fine_tuning_trains_every_layer_and_its_batch_norm(full, small):
    before, after = load_file(small / "model.safetensors"), load_file(full / "model.safetensors")
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"normalize.weight", "normalize.bias"}


@pytest.mark.slow
def test_weights_that_begin_at_random_are_trained_from_a_head_of_usual_size(digits, tmp_path):
    # A head fitted to the random features of this backbone had weights from which training did not recover.
    options = TrainOptions(image_size=64, epochs=1, backbone="efficientnet_b0", weights="none", finetune="full")
    report = edgeclf.train(digits, tmp_path / "run", options)
    assert report.metrics["loss"] < 5


def test_the_mean_and_std_of_the_weights_are_recorded_and_are_in_every_file(digits, tmp_path):
    report = edgeclf.train(digits, tmp_path / "run", quick(epochs=1, mean=(0.5, 0.4, 0.3), std="0.25"))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["normalization"] == {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.25, 0.25]}
    assert (facts["options"]["mean"], facts["options"]["std"]) == ("0.5,0.4,0.3", "0.25")
    network = read_run(report.run).network()
    gray = torch.full((1, 3, 1, 1), 255 * 0.5)
    assert network.normalize(gray).flatten().tolist() == pytest.approx([0, 0.4, 0.8], abs=1e-5)
    edgeclf.export(report.run)  # compared with torch on real images


def test_without_them_they_are_timms(small):
    facts = json.loads((small / "run.json").read_text())
    assert facts["normalization"] == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def test_a_report_that_cannot_be_written_does_not_lose_the_training(digits, tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise IndexError("no such layer")

    monkeypatch.setattr("edgeclf.training.train.report_training", failing)
    show_progress()
    run = edgeclf.train(digits, tmp_path / "run", quick(epochs=1)).run
    assert read_run(run).network()
    assert "the report of the training was not written (no such layer)" in capsys.readouterr().err


def test_a_frozen_backbone_of_random_weights_is_warned_of_in_the_report_too(small, full):
    found = {run: json.loads((run / "run.json").read_text())["data"]["findings"] for run in (small, full)}
    assert ["frozen with random weights" in text for text in found[small]] == [True]
    assert found[full] == []


@pytest.mark.parametrize("finetune", ["head", "full"])
def test_a_head_that_is_kept_is_where_training_starts(small, digits, tmp_path, finetune):
    options = quick(
        weights=str(small / "model.safetensors"), keep_head=True, epochs=1, learning_rate=1e-9, finetune=finetune
    )
    edgeclf.train(digits, tmp_path / "run", options)
    before, after = (load_file(run / "model.safetensors") for run in (small, tmp_path / "run"))
    assert torch.allclose(before["backbone.classifier.weight"], after["backbone.classifier.weight"], atol=1e-4)


def test_metrics_have_one_row_an_epoch(small, full):
    for run, epochs in ((small, 2), (full, 1)):
        with (run / "metrics.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(epochs)]
        assert all(float(row["loss"]) > 0 and 0 <= float(row["val_accuracy"]) <= 1 for row in rows)


def test_a_run_records_versions_options_data_and_metrics(small, digits):
    facts = json.loads((small / "run.json").read_text())
    assert facts["versions"]["torch"] == torch.__version__
    assert {"python", "edgeclf", "torchvision", "timm", "lightning", "numpy", "cv2", "onnxruntime"} <= set(
        facts["versions"]
    )
    assert TrainOptions(**{**facts["options"], "log": (), "targets": ()}) == quick()
    assert facts["data"]["name"] == "digits"
    assert facts["data"]["root"] == str(digits)
    assert facts["data"]["split"] == {"seed": 0, "test": 0.25, "val": 0.1, "method": "stable"}
    assert facts["data"]["split_sha256"] == hashlib.sha256((small / "split.csv").read_bytes()).hexdigest()
    assert facts["metrics"]["epoch"] in (0, 1)


@pytest.mark.slow
def test_findings_that_do_not_stop_training_are_in_the_run(digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    (photos / "3" / "bad.jpg").write_text("no image")
    report = edgeclf.train(photos, tmp_path / "run", quick(epochs=1, skip_unreadable=True))
    assert report.warnings == tuple(json.loads((tmp_path / "run" / "run.json").read_text())["data"]["findings"])
    assert "bad.jpg" in report.warnings[0]
    assert "bad.jpg" not in (tmp_path / "run" / "split.csv").read_text()


@pytest.mark.slow
def test_relative_and_linked_data_is_found_again_from_elsewhere(digits, tmp_path, monkeypatch):
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "photos").symlink_to(digits)
    lines = [f"../outside/{path.parent.name}{path.name},{path.parent.name}" for path in sorted(digits.rglob("*.png"))]
    (tmp_path / "outside").mkdir()
    for path in digits.rglob("*.png"):
        shutil.copyfile(path, tmp_path / "outside" / f"{path.parent.name}{path.name}")
    (tmp_path / "link" / "data.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    monkeypatch.chdir(tmp_path / "link" / "photos")
    edgeclf.train(".", tmp_path / "folder", quick(epochs=1))
    monkeypatch.chdir(tmp_path)
    edgeclf.train("link/data.csv", "csv", quick(epochs=1))
    monkeypatch.chdir("/")
    for run, name in (("folder", digits.name), ("csv", "data.csv")):
        read = edgeclf.training.runs.read_run(tmp_path / run)
        assert read.name == name
        assert len(read.dataset().samples) == 180


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finetune": "some"}, "finetune is 'some'; head, gradual, full was expected"),
        ({"resize": "squash"}, "resize is 'squash'; crop, stretch, letterbox was expected"),
        ({"epochs": 0}, "epochs is 0; 1 to 10000 was expected"),
        ({"image_size": 8}, "image-size is 8; 32 to 1024 was expected"),
        ({"batch_size": 0}, "batch-size is 0; 1 to 4096, or auto, was expected"),
        ({"batch_size": 1, "finetune": "full"}, "batch-size is 1; full needs 2 or more"),
        ({"seed": -1}, "seed is -1; 0 to 2147483648 was expected"),
        ({"learning_rate": 0}, "learning-rate is 0; more than 0 and less than 1 was expected"),
        ({"learning_rate": float("nan")}, "learning-rate is nan; more than 0"),
        ({"freeze": 2}, "freeze was given, but head leaves every stage"),
        (
            {"freeze": 2, "finetune": "full", "weights": "none"},
            "freeze keeps stages that have learned something, but weights is none",
        ),
        ({"val": 0.95}, "the share for val is 0.95; more than 0 and less than 0.9 was expected"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        TrainOptions(**options)


def test_an_image_size_that_the_backbone_cannot_take_is_refused_with_one_that_it_can(digits, tmp_path):
    options = quick(backbone="vit_tiny_patch16_224")
    with pytest.raises(OptionError, match=r"cannot take images of 64 x 64 .*; choose another --image-size, say 224"):
        edgeclf.train(digits, tmp_path / "run", options)


def test_a_taken_output_is_refused_before_the_data_is_read(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not empty"):
        edgeclf.train(tmp_path / "no data", tmp_path / "run")
    with pytest.raises(OutputError, match=r"has no run.json, so edgeclf did not create it and will not replace it"):
        edgeclf.train(tmp_path / "no data", tmp_path / "run", overwrite=True)


def test_overwrite_replaces_a_run(small, digits, tmp_path):
    copy = shutil.copytree(small, tmp_path / "run")
    (copy / "model.fp32.onnx").write_text("of the run that was")
    edgeclf.train(digits, copy, quick(seed=1), overwrite=True)
    assert sha256(copy) != sha256(small)
    assert not (copy / "model.fp32.onnx").exists()


@pytest.mark.slow
def test_a_training_that_fails_leaves_the_old_run_as_it_was_and_what_it_can_go_on_with(
    small, digits, tmp_path, monkeypatch
):
    copy = shutil.copytree(small, tmp_path / "run")

    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train, "_write_metrics", full_disk)
    with pytest.raises(OutputError, match=r"run cannot be written \(No space left on device\): free some space"):
        edgeclf.train(digits, copy, quick(epochs=1), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.unfinished"]
    assert sha256(copy) == sha256(small)


def test_data_that_cannot_be_trained_on_leaves_no_run(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        edgeclf.train(tmp_path / "photos", tmp_path / "run", quick())
    assert not (tmp_path / "run").exists()


def test_an_image_that_goes_bad_while_all_layers_are_trained_is_named_in_one_line(digits, tmp_path):
    paths = sorted(digits.rglob("*.png"))[:8]
    gone = tmp_path / "gone.png"
    with pytest.raises(ImageError, match=r"gone\.png: cannot be read") as raised:
        fit_network(
            create(SMALL, 3),
            Pictures(
                {"train": [*paths, gone], "val": paths},
                {"train": np.zeros(9, int), "val": np.zeros(8, int)},
                Preprocessing(64, 64),
            ),
            # A batch that is not full would be dropped, sometimes with this image.
            TrainOptions(finetune="full", epochs=1, batch_size=3, flips="none"),
        )
    assert "\n" not in str(raised.value)


# The head


def test_the_head_takes_features_as_they_are_and_separates_what_can_be_separated():
    generator = np.random.default_rng(0)
    targets = np.arange(200) % 4
    # Off center and of different spreads, as a backbone's features are.
    spread, center = generator.uniform(0.1, 5, 16), generator.uniform(-20, 20, 16)
    features = (generator.normal(size=(4, 16))[targets] * 3 + generator.normal(size=(200, 16))) * spread + center
    features = features.astype(np.float32)
    head = nn.Linear(16, 4)
    options = TrainOptions(epochs=10, learning_rate=3e-2)
    fit = fit_head(head, {"train": features, "val": features}, {"train": targets, "val": targets}, options)
    with torch.inference_mode():
        accuracy = (head(torch.from_numpy(features)).argmax(1).numpy() == targets).mean()
    assert accuracy > 0.95
    assert fit.best_row["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_a_single_step_is_trained_at_the_rate_that_was_asked_for():
    fit = Fit(torch.nn.Linear(2, 2), Plan(TrainOptions(), 2, 1, 1, 1e-3), lambda: None)
    optimizer = fit.configure_optimizers()
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_training_all_layers_that_ends_worse_keeps_the_head(digits):
    paths = sorted(digits.rglob("*.png"))[::18]
    targets = np.array([int(path.parent.name == "8") for path in paths])
    pictures = Pictures({"train": paths, "val": paths}, {"train": targets, "val": targets}, Preprocessing(64, 64))
    network = create(SMALL, 3)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    head = {"epoch": 0, "loss": 0.0, "val_loss": 0.0, "val_accuracy": 1.0, "val_macro_f1": 1.0}
    fit = fit_network(network, pictures, TrainOptions(finetune="full", epochs=2, batch_size=4, workers=0), [head])
    assert fit.best_row is fit.rows[0]
    assert [row["epoch"] for row in fit.rows] == [0, 1, 2]
    assert all(torch.equal(start[name], value) for name, value in network.state_dict().items())


def test_pixels_travel_from_the_workers_as_bytes(digits):
    paths = sorted(digits.rglob("*.png"))[:2]
    pixels, target, _ = Images(
        paths, np.zeros(2, int), Preprocessing(32, 32), augmentation(AugmentationOptions(flips="all"), 32)
    )[Draw(0, 5)]
    assert (pixels.dtype, pixels.shape, target) == (torch.uint8, (32, 32, 3), 0)


@pytest.mark.parametrize("name", ["x" * 300, "digits/0/0000.png/run"])
def test_an_output_that_cannot_be_written_is_found_before_training(digits, tmp_path, monkeypatch, name):
    monkeypatch.setattr(strategy, "fit", lambda *_: pytest.fail("it was trained"))
    (tmp_path / "digits" / "0").mkdir(parents=True)
    (tmp_path / "digits" / "0" / "0000.png").touch()
    with pytest.raises(OutputError):
        edgeclf.train(digits, tmp_path / name, quick())


def test_images_are_compared_with_the_backbones_own_size(digits, tmp_path):
    # Of 160 pixels; the images have 64.
    report = edgeclf.train(digits, tmp_path / "run", backbone="test_resnet", weights="none", finetune="full", epochs=1)
    assert any("smaller than the model's input of 160 x 160" in line for line in report.warnings)
