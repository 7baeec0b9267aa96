"""Features from a graph: the input of the last linear layer, of our own networks and of other programs'."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import edgeclf
from edgeclf import read_run
from edgeclf.display.progress import show_progress
from edgeclf.errors import ModelError
from edgeclf.graph.features import add_features_output, features_only, reporting_features, with_features
from edgeclf.graph.fp16 import halve, halve_remainder
from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.forms import FORMS
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.ranges import ranges_of
from edgeclf.graph.int8.rounding import Rounding
from edgeclf.graph.onnx_file import export_torch, has_features, with_outputs, without_features, write_onnx
from edgeclf.targets import FLAVORS
from edgeclf.training.backbones import create
from edgeclf_runtime.images.preprocess import Preprocessing
from tests.support.foreign import SETTINGS, color_model, write_photos
from tests.support.graphs import CHANNELS, SIDE, conv_graph


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


FORMS_WITH_AN_8_BIT_HEAD = ("all-weighted", "all-layers")


@pytest.fixture(scope="module")
def small():
    """A small graph, prepared, with its ranges and rounding, and an image."""
    model = conv_graph()
    images = [np.random.default_rng(i).uniform(0, 255, (1, SIDE, SIDE, 3)).astype(np.float32) for i in range(4)]
    ranges = ranges_of(collect_histograms(model, images), "minmax")
    return model, ranges, Rounding(model, {}), images[0]


def expected_features(model, image):
    pooled = with_outputs(model, ["features"])
    return onnxruntime.InferenceSession(pooled, providers=["CPUExecutionProvider"]).run(["features"], {"image": image})[
        0
    ]


def test_an_inner_tensor_of_the_same_name_gives_way(small):
    model, _, _, image = small
    logits, features = outputs(with_features(model), image)
    assert np.array_equal(features, expected_features(model, image))
    assert np.array_equal(logits, outputs(model, image)[0])


@pytest.mark.parametrize("form", ["standard", *FORMS_WITH_AN_8_BIT_HEAD])
@pytest.mark.parametrize("name", ["int8-cpu", "int8-arm", "int8-tensorrt"])
def test_a_file_of_8_bits_has_the_features_and_the_same_logits(small, name, form):
    model, ranges, rounding, image = small
    quantized = write_flavor(model, FLAVORS[name], ranges, rounding, form=FORMS[form])
    logits, features = outputs(with_features(quantized), image)
    expected = expected_features(model, image)
    assert features.dtype == np.float32
    assert np.abs(features - expected).max() < 0.05 * np.abs(expected).max()
    assert np.array_equal(logits, outputs(quantized, image)[0])


@pytest.mark.parametrize("form", ["standard", *FORMS_WITH_AN_8_BIT_HEAD])
def test_the_output_does_not_keep_a_backend_from_fusing_8_bits(small, form, tmp_path):
    model, ranges, rounding, _ = small
    quantized = write_flavor(model, FLAVORS["int8-cpu"], ranges, rounding, form=FORMS[form])
    without, with_output = (optimized(one, tmp_path) for one in (quantized, with_features(quantized)))
    more = with_output - without
    assert not without - with_output
    assert set(more) <= {"Flatten", "DequantizeLinear"}
    assert sum(more.values()) <= 2


def optimized(model, folder):
    """The operators into which ONNX Runtime turns a model, with their numbers."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def test_features_of_fp16_files_are_float32(small):
    model, ranges, rounding, _ = small
    full = write_flavor(model, FLAVORS["int8-tensorrt"], ranges, rounding)
    for half, opset in ((halve(model, ranges), 13), (halve_remainder(full, ranges), 19)):
        own = with_features(half)
        (entry,) = (entry.version for entry in own.opset_import if entry.domain == "")
        assert entry == opset
        assert [value.type.tensor_type.elem_type for value in own.graph.output] == [onnx.TensorProto.FLOAT] * 2
        onnx.checker.check_model(own, full_check=True)


def test_without_features_is_the_file_as_before(small):
    model = small[0]
    assert without_features(model) is model
    assert has_features(with_features(model))
    back = without_features(with_features(model))
    assert not has_features(back)
    assert [node.op_type for node in back.graph.node] == [node.op_type for node in model.graph.node]


def test_the_number_of_features_is_in_the_files_interface(small):
    dims = with_features(small[0]).graph.output[1].type.tensor_type.shape.dim
    assert (dims[0].dim_value, dims[1].dim_value) == (1, CHANNELS)


def test_a_model_without_a_linear_head_stays_and_a_warning_says_so(capsys):
    model = head(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4), torch.nn.ReLU())
    assert with_features(model) is model
    show_progress()
    assert reporting_features(model) is model
    show_progress(False)
    assert "warning: the model has no features: it does not end with a linear layer" in capsys.readouterr().err


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
