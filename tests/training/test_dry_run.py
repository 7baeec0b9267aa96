"""What the trial of a backbone converts to, and that a passed trial is remembered."""

import dataclasses
import json

import pytest
import timm
import torch

import edgeclf
from edgeclf.errors import DataError, ModelError, OptionError
from edgeclf.options import TrainOptions
from edgeclf.training.backbones import create
from edgeclf.training.dry_run import check_export as exports
from edgeclf.training.dry_run import passes, try_backbone
from edgeclf.training.dry_run.check_export import TRIED, check_export
from edgeclf.training.dry_run.try_backbone import flavors_to_try
from edgeclf_runtime.images.preprocess import Preprocessing

OPTIONS = TrainOptions(backbone="test_resnet", weights="none", finetune="full", image_size=64, targets=("jetson-nano",))
LABELS = ("a", "b", "c")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try_backbone._tried.cache_clear()
    yield tmp_path / "edgeclf" / passes.FOLDER
    try_backbone._tried.cache_clear()


@pytest.fixture
def trials(monkeypatch):
    """The flavors of each trial, which passes."""
    found = []
    monkeypatch.setattr(try_backbone, "check_export", lambda network, spec, flavors: found.append(flavors))
    return found


def attempt(options=OPTIONS, labels=LABELS):
    """Try as a new process does."""
    try_backbone._tried.cache_clear()
    return try_backbone.try_backbone(options, labels)


def test_a_passed_backbone_is_tried_once(cache, trials):
    assert attempt() == attempt() == (None, Preprocessing(64, 64))
    assert trials == [("fp16",)]
    assert attempt(dataclasses.replace(OPTIONS, resize="stretch", seed=4)) == (
        None,
        Preprocessing(64, 64, resize="stretch"),
    )
    assert len(trials) == 1


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (dataclasses.replace(OPTIONS, image_size=96), LABELS),
        (dataclasses.replace(OPTIONS, stem_stride=1), LABELS),
        (dataclasses.replace(OPTIONS, mean="0.5", std="0.5"), LABELS),
        (dataclasses.replace(OPTIONS, targets=("x86-cpu",)), LABELS),
        (OPTIONS, LABELS[:2]),
    ],
)
def test_another_network_is_tried(cache, trials, options, labels):
    attempt()
    attempt(options, labels)
    assert len(trials) == 2


def test_other_versions_and_sources_are_tried(cache, trials, monkeypatch):
    attempt()
    monkeypatch.setattr(timm, "__version__", "0.0.1")
    attempt()
    monkeypatch.setattr(passes, "_sources", lambda: "changed")
    attempt()
    assert len(trials) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"facts": {}, "image_size": 64}',
        "FACTS 0",
        'FACTS "64"',
        "FACTS true",
        "FACTS 1000000",
        "\0" * 9,
    ],
)
def test_a_damaged_or_foreign_pass_is_ignored(cache, trials, text):
    attempt()
    (file,) = cache.iterdir()
    whole = json.loads(file.read_text())
    facts = json.dumps(whole["facts"])
    file.write_text(f'{{"facts": {facts}, "image_size": {text[6:]}}}' if text.startswith("FACTS") else text)
    assert attempt() == (None, Preprocessing(64, 64))
    assert len(trials) == 2
    assert json.loads(file.read_text()) == whole


def test_a_bounded_number_of_passes_is_kept(cache, trials, monkeypatch):
    monkeypatch.setattr(passes, "MOST", 2)
    for size in (64, 96, 128):
        attempt(dataclasses.replace(OPTIONS, image_size=size))
    assert sorted(json.loads(file.read_text())["image_size"] for file in cache.iterdir()) == [96, 128]


def test_a_refused_backbone_is_tried_again(cache, monkeypatch):
    inner = timm.models.resnet.ResNet.forward
    monkeypatch.setattr(timm.models.resnet.ResNet, "forward", lambda self, x: torch.fft.fft2(inner(self, x)).real)
    with pytest.raises(ModelError, match="choose another --backbone"):
        attempt()
    assert not cache.exists()


def test_a_network_of_the_users_own_is_tried_every_time(cache, trials, monkeypatch):
    monkeypatch.setattr(timm, "model_entrypoint", lambda name: attempt)
    attempt()
    attempt()
    assert len(trials) == 2


def test_only_what_the_targets_need_is_tried():
    assert flavors_to_try(()) == tuple(TRIED)
    assert flavors_to_try(("x86-cpu",)) == flavors_to_try(("arm-cpu",)) == ("int8-cpu",)
    assert flavors_to_try(("jetson-xavier", "jetson-nano")) == ("int8-cpu", "int8-tensorrt", "fp16")
    with pytest.raises(OptionError, match="there is no target pi; choose from"):
        TrainOptions(targets=("pi",))


def test_a_network_that_fp16_cannot_hold_is_refused_for_the_nano(monkeypatch):
    def fail(graph, ranges):
        raise ValueError("no such type")

    monkeypatch.setattr(exports, "halve", fail)
    network = create("test_resnet", 3)
    check_export(network, Preprocessing(64, 64), ("int8-cpu",))
    with pytest.raises(ModelError, match=r"cannot be converted to FP16 \(no such type\); choose another --backbone"):
        check_export(network, Preprocessing(64, 64), ("fp16",))


def test_data_with_a_single_label_is_refused_before_a_network_is_tried(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(try_backbone, "try_backbone", None)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "3").symlink_to(digits / "3")
    with pytest.raises(DataError, match="has only one class, '3'"):
        edgeclf.train(tmp_path / "one", tmp_path / "run")
