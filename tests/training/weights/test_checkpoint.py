"""Files of weights of other programs, none of whose code is run."""

import os
import pickle

import pytest
import torch

from edgeclf.errors import WeightsError
from edgeclf.training.backbones import create
from edgeclf.training.weights.checkpoint import read_label_names
from tests.support.weights import SMALL, same


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


def test_a_checkpoint_that_contains_itself_has_no_weights(tmp_path):
    state = {}
    state["model"] = state
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="has no state dict"):
        create(SMALL, 3, str(tmp_path / "weights.pth"))


class Code:
    """Its pickle creates a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))])
def test_weights_that_would_run_code_are_refused_and_the_code_is_not_run(tmp_path, save):
    save({"weight": Code(str(tmp_path / "ran"))}, tmp_path / "evil.pth")
    with pytest.raises(
        WeightsError, match=r"evil.pth is damaged, or holds more than tensors, and so could run code: save"
    ):
        create(SMALL, 3, str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_a_whole_model_or_other_values_are_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"has no state dict .*; save one with torch.save"):
        create(SMALL, 3, str(tmp_path / "other.pth"))


def test_weights_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone.pth do not exist; imagenet, none or a file was expected"):
        create(SMALL, 3, str(tmp_path / "gone.pth"))


def test_a_runs_labels_stand_beside_its_weights(run):
    assert read_label_names(run / "model.safetensors") == ("3", "5", "8")
