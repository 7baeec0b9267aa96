import json

import cv2
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from edgeclf import TrainOptions, export_formats, read_run, train
from edgeclf.errors import GateError
from edgeclf.evaluation.open_model import TorchRunner
from edgeclf.training.backbones import create
from edgeclf.training.weights.sources import find_weights
from edgeclf_runtime.images.preprocess import as_batch, preprocess


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("timm") / "timm"
    export_formats(run, output=path, formats=("timm",))
    return path


def test_timm_loads_the_folder_and_makes_the_same_input_of_a_picture(run, folder):
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    opened = read_run(run)
    for sample in opened.dataset().split("test")[:5]:
        picture = cv2.imread(str(sample.path))
        expected = TorchRunner(opened.network()).infer(as_batch([preprocess(picture, opened.preprocessing)]))
        with torch.no_grad():
            found = model(transform(Image.fromarray(picture[..., ::-1]))[None]).numpy()
        assert np.abs(found - expected).max() < 1e-3
    assert model.pretrained_cfg["label_names"] == ["3", "5", "8"]


def test_the_weights_are_no_pickle(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_the_configuration_has_the_runs_own_size_crop_and_resize(digits, tmp_path):
    options = TrainOptions(image_size=32, epochs=1, resize="stretch", mean="0.5", std="0.25")
    train(digits, tmp_path / "run", options)
    export_formats(tmp_path / "run", formats=("timm",))
    config = json.loads((tmp_path / "run" / "timm" / "config.json").read_text())["pretrained_cfg"]
    expected = {"input_size": [3, 32, 32], "crop_mode": "squash", "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.25] * 3}
    assert {name: config[name] for name in expected} == expected


def test_the_folder_is_a_backbone_of_edgeclf_too(folder):
    """timm 1.0.31 writes the arguments of every model, such as its pooling, which leave the architecture as it is."""
    name = f"local-dir:{folder}"
    network = create(name, 5, find_weights(name, "imagenet"))
    assert network.head.out_features == 5


def test_a_run_with_other_first_layers_is_refused_since_timm_would_not_build_them(digits, tmp_path):
    train(digits, tmp_path / "run", image_size=32, epochs=1, stem_stride=1)
    with pytest.raises(GateError, match="timm: the run has other first layers"):
        export_formats(tmp_path / "run", formats=("timm",))
