"""The Open Inference Protocol, with NVIDIA's client and with requests that are wrong."""

import json

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.runners.base import Runner


@pytest.fixture(scope="module")
def nvidia(client):
    """NVIDIA's client."""
    with triton.InferenceServerClient(client.host) as found:
        yield found


@pytest.fixture(scope="module")
def pixels(bundle, digits):
    """Two preprocessed images, uint8 [2, height, width, 3]."""
    with Classifier.open(bundle) as classifier:
        batches = [classifier.prepare(digits / digit / "000.png") for digit in ("3", "8")]
        return np.concatenate(batches).astype(np.uint8)


@pytest.fixture(scope="module")
def expected(bundle, pixels, client):
    """The logits of ``pixels``."""
    served = client.server.models[0]
    with Classifier.open(bundle, served["file"], served["backend"]) as classifier:
        return np.concatenate([classifier.infer(one[None].astype(np.float32)).logits for one in pixels])


def tensor(pixels, datatype="FP32", binary=True):
    found = triton.InferInput("image", list(pixels.shape), datatype)
    found.set_data_from_numpy(pixels.astype(np.float32 if datatype == "FP32" else np.uint8), binary_data=binary)
    return found


def document(pixels, **changes):
    """A request in JSON, with changes to its input."""
    given = {"name": "image", "shape": list(pixels.shape), "datatype": "UINT8", "data": pixels.tolist()}
    return {"inputs": [{name: value for name, value in {**given, **changes}.items() if value is not None}]}


def post(client, request, path="/v2/models/digits/infer", **headers):
    return client.post(
        path, json.dumps(request) if isinstance(request, dict) else request, "application/json", **headers
    )


def test_the_client_finds_the_server_and_its_models_ready(nvidia):
    assert nvidia.is_server_live()
    assert nvidia.is_server_ready()
    assert nvidia.is_model_ready("digits")
    assert nvidia.is_model_ready("other", nvidia.get_model_metadata("other")["versions"][0])
    assert not nvidia.is_model_ready("nonsense")
    assert nvidia.get_server_metadata()["extensions"] == ["binary_tensor_data"]


def test_the_metadata_says_what_a_model_takes_and_gives(nvidia, pixels):
    found = nvidia.get_model_metadata("digits")
    assert found["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, *pixels.shape[1:]]}]
    assert found["outputs"][0] == {"name": "logits", "datatype": "FP32", "shape": [-1, 3]}
    assert found["parameters"]["labels"] == ["3", "5", "8"]
    assert found["parameters"]["input"].startswith("preprocessed pixels, RGB, 0 to 255")
    assert nvidia.get_model_metadata("digits", found["versions"][0]) == found


@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("datatype", ["FP32", "UINT8"])
def test_tensors_in_json_and_binary_give_the_models_logits(
    nvidia, pixels, expected, datatype, binary_input, binary_output
):
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_output) for name in ("logits", "features")]
    found = nvidia.infer("digits", [tensor(pixels, datatype, binary_input)], outputs=outputs, request_id="7")
    assert np.allclose(found.as_numpy("logits"), expected, atol=1e-4)
    features = nvidia.get_model_metadata("digits")["outputs"][1]["shape"][1]
    assert found.as_numpy("features").shape == (2, features)
    assert found.get_response()["id"] == "7"


def test_without_a_choice_all_outputs_are_given(nvidia, client, pixels, expected):
    found = nvidia.infer("digits", [tensor(pixels)])
    assert [output["name"] for output in found.get_response()["outputs"]] == ["logits", "features"]
    status, _, answer = post(client, document(pixels))
    assert (status, [output["name"] for output in answer["outputs"]]) == (200, ["logits", "features"])
    assert np.allclose(np.reshape(answer["outputs"][0]["data"], (2, 3)), expected, atol=1e-4)


def test_more_images_than_one_inference_takes_are_inferred_in_parts(nvidia, pixels, expected):
    found = nvidia.infer("digits", [tensor(np.repeat(pixels, 11, axis=0), "UINT8")])
    assert np.allclose(found.as_numpy("logits"), np.repeat(expected, 11, axis=0), atol=1e-4)
    assert found.as_numpy("features").shape[0] == 22


def test_the_client_shows_the_error_of_another_shape_and_of_another_model(nvidia, pixels):
    with pytest.raises(InferenceServerException, match=r"image has the shape \[2, 63, 64, 3\]; \[N, 64, 64, 3\] was"):
        nvidia.infer("digits", [tensor(pixels[:, 1:])])
    with pytest.raises(InferenceServerException, match="there is no model 'nonsense'; there is digits, other"):
        nvidia.infer("nonsense", [tensor(pixels)])
    with pytest.raises(InferenceServerException, match="the model 'digits' has the version '"):
        nvidia.get_model_metadata("digits", "2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "images"}, "the inputs are images; image was expected, once"),
        ({"datatype": "FP16"}, "image has the datatype 'FP16'; FP32 or UINT8 was expected"),
        ({"shape": [2, 64, 64]}, "image has the shape [2, 64, 64]; [N, 64, 64, 3] was expected"),
        ({"shape": [0, 64, 64, 3]}, "image has the shape [0, 64, 64, 3]"),
        ({"shape": "2"}, "inputs[0].shape is '2'; a list of 0 to 8 was expected"),
        ({"data": [1, 2]}, "the data of image is 2 values; 24576 whole numbers were expected"),
        ({"data": [[1, 2], [3]]}, "the data of image is something else than equally long lists of numbers"),
        ({"data": ["1"] * 24576}, "something else than equally long lists of numbers"),
        ({"data": [True] * 24576}, "something else than equally long lists of numbers"),
        ({"data": [0.5] * 24576}, "24576 whole numbers were expected"),
        ({"data": [256] * 24576}, "values outside of 0 to 255"),
        ({"data": [-1] * 24576}, "values outside of 0 to 255"),
        ({"data": None}, "image needs either data or the parameter binary_data_size"),
        ({"parameters": {"binary_data_size": 4}}, "image needs either data or the parameter binary_data_size"),
        ({"data": None, "parameters": {"binary_data_size": 4}}, "image has 0 bytes, and binary_data_size is 4; 24576"),
        ({"nonsense": 1}, "the field 'nonsense' is not known"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_in_a_sentence(client, pixels, changes, words):
    status, _, answer = post(client, document(pixels, **changes))
    assert status == 400
    assert words in answer["error"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"{", "the request: it is not JSON"),
        (b"[]", "the request: it is []; an object"),
        (b'{"inputs": []}', "the inputs are none; image was expected, once"),
        (b'{"inputs": [], "outputs": 3}', "the request: outputs is 3; a list"),
        (b'{"inputs": [NaN]}', "the request: it holds NaN"),
    ],
)
def test_a_request_that_is_not_one_is_refused_in_a_sentence(client, request_, words):
    status, _, answer = post(client, request_)
    assert status == 400
    assert words.partition("[]")[0] in answer["error"]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([{"name": "labels"}], "the outputs are labels; logits, features was expected, once"),
        ([{"name": "logits"}, {"name": "logits"}], "the outputs are logits, logits"),
        (
            [{"name": "logits", "parameters": {"classification": 2}}],
            "the extension for classifications is not supported",
        ),
        ([{"name": "logits", "parameters": {"binary_data": 1}}], "binary_data_output are true or false"),
    ],
)
def test_an_output_that_does_not_exist_is_refused(client, pixels, outputs, words):
    status, _, answer = post(client, {**document(pixels), "outputs": outputs})
    assert status == 400
    assert words in answer["error"]


@pytest.mark.parametrize("size", ["x", "-1", "100000"])
def test_a_size_of_the_json_that_is_not_one_is_refused(client, size):
    status, _, answer = post(client, b"{}", **{"Inference-Header-Content-Length": size})
    assert status == 400
    assert "Inference-Header-Content-Length is" in answer["error"]


def test_values_that_are_not_numbers_never_reach_a_backend(client, nvidia, pixels):
    for value in (np.nan, np.inf, 1e30):
        with pytest.raises(InferenceServerException, match="outside of 0 to 255, or that are not numbers"):
            nvidia.infer("digits", [tensor(np.full(pixels.shape, value))])
    assert client.server.models[0]["file"] == client.get("/models")[2]["models"][0]["file"]


class Broken(Runner):
    """A backend that fails."""

    backend = title = "broken"

    def __init__(self):
        pass

    def _infer(self, batch):
        raise RuntimeError("secret reason")


def test_a_model_without_a_backend_is_not_ready_and_its_reasons_stay_here(serve_runner, pixels, caplog):
    client = serve_runner(Broken())
    assert client.get("/v2/models/it/ready")[0] == client.get("/v2/health/ready")[0] == 200
    status, _, answer = post(client, document(pixels), "/v2/models/it/infer")
    assert (status, answer["error"]) == (500, "the model failed; the server's log says why")
    assert "secret reason" in caplog.text
    status, _, answer = client.get("/v2/models/it/ready")
    assert (status, answer["error"]) == (503, "no backend of the model 'it' works; the server's log says why")
    assert client.get("/v2/health/ready")[0] == 503
    assert client.get("/v2/health/live")[0] == 200
