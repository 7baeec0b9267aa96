"""Features from a graph: the input of the last linear layer, of our own networks and of other programs'."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import edgeclf
from edgeclf import read_run
from edgeclf.errors import ModelError
from edgeclf.graph.features import add_features_output, features_only
from edgeclf.graph.onnx_file import export_torch, write_onnx
from edgeclf.training.backbones import create
from edgeclf_runtime.images.preprocess import Preprocessing
from tests.support.foreign import SETTINGS, color_model, write_photos


def outputs(model, images, name=None):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_convnext", "test_resnet"])
def test_the_second_output_is_what_the_head_reads(tmp_path, name):
    torch.manual_seed(0)
    network = create(name, 4).eval()
    write_onnx(network, Preprocessing(160, 160), tmp_path / "model.onnx", {})
    model = onnx.load(tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3)).astype(np.float32)
    logits, features = outputs(add_features_output(model), images)
    with torch.inference_mode():
        expected = network.features(torch.from_numpy(images)).numpy()
    assert np.abs(features - expected).max() < 1e-4 * max(1, np.abs(expected).max())
    assert (
        np.abs(logits - (features @ network.head.weight.detach().numpy().T + network.head.bias.detach().numpy())).max()
        < 1e-3
    )
    (alone,) = outputs(features_only(model), images)
    assert np.array_equal(alone, features)
    assert len(model.graph.output) == 1


def head(*layers):
    return export_torch(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), *layers).eval(), (1, 3, 16, 16), "x", "y")


def test_a_head_of_one_pixel_has_features_and_others_have_none():
    images = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    pooled = head(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Conv2d(8, 4, 1), torch.nn.Flatten())
    assert outputs(add_features_output(pooled), images)[1].shape == (2, 8)
    for layers in (
        [torch.nn.Conv2d(8, 4, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()],
        [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4), torch.nn.ReLU()],
    ):
        with pytest.raises(ModelError, match=r"does not end with a linear layer"):
            add_features_output(head(*layers))


def test_an_imported_run_chooses_diverse_images_and_audits(tmp_path):
    photos = write_photos(tmp_path / "photos")
    color_model(tmp_path / "m.onnx", end="Softmax")
    edgeclf.import_model(tmp_path / "m.onnx", tmp_path / "run", edgeclf.ImportOptions(**SETTINGS), data=photos)
    assert read_run(tmp_path / "run").imported
    report = edgeclf.calibrate(
        photos, tmp_path / "set", rule="diverse", model=str(tmp_path / "run"), size=10, force=True
    )
    assert report.images == 10
    audited = edgeclf.audit(photos, tmp_path / "audit", model=str(tmp_path / "run"))
    assert sum(audited.images.values()) == 80
