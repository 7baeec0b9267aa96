"""Pretrained weights from the Hugging Face hub."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save

from edgeclf.training.backbones import create
from edgeclf.training.weights.sources import find_weights
from tests.support.hub import COMMIT, Hub
from tests.support.weights import FLAT, REPOSITORY, SMALL

CODE = """
import json, sys
from edgeclf.errors import EdgeclfError
from edgeclf.training.backbones import create
from edgeclf.training.weights.sources import find_weights
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
def test_a_revision_is_fetched_and_recorded(backbone, tmp_path):
    files = {"config.json": json.dumps(FLAT).encode(), "model.safetensors": save(backbone.state_dict())}
    hub = Hub("me/mine", files)
    found = ask(tmp_path, hub, "hf-hub:me/mine@v2", "download")
    assert (found["name"], found["revision"]) == ("me/mine", COMMIT)
    assert all("/resolve/v2/" in path for _, path in hub.asked)
    hub.close()
    assert ask(tmp_path, hub, "hf-hub:me/mine@v2") == found
