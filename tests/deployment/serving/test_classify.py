"""Pictures that are sent to a server, as they are or by a form."""

import json
import socket

import pytest

from edgeclf_runtime.classify.classifier import Classifier


def form(*files, field="image", boundary="limit"):
    """The body and the type of a form with files, as curl -F sends it."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{number}.png"\r\n'
        f"Content-Type: image/png\r\n\r\n".encode()
        + data
        for number, data in enumerate(files)
    ]
    text = f'--{boundary}\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello'.encode()
    body = b"\r\n".join([text, *parts, f"--{boundary}--\r\n".encode()])
    return body, f"multipart/form-data; boundary={boundary}"


@pytest.fixture(scope="module")
def expected(bundle, digits, client):
    """The result of a Classifier with the server's model and backend, without times."""
    served = client.server.models[0]
    with Classifier.open(bundle, served["file"], served["backend"]) as classifier:
        return timeless(classifier.classify(digits / "8" / "000.png").to_dict())


def send_forever(connection, data):
    while True:
        connection.sendall(data)


def timeless(result):
    return {name: value for name, value in result.items() if name != "timings_ms"}


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("path", ["/classify", "/models/other/classify"])
def test_an_image_gets_the_result_of_a_classifier(client, image, expected, path, kind):
    status, _, result = client.post(path, image, kind)
    version = client.get("/models")[2]["models"][0]["version"]
    assert (status, timeless(result)) == (200, {**expected, "bundle": version})
    assert set(result["timings_ms"]) == {"preprocess", "inference", "postprocess"}


@pytest.mark.parametrize("field", ["image", "file", "x"])
def test_a_forms_file_is_classified_whatever_its_field_is_called(client, image, expected, field):
    status, _, result = client.post("/classify", *form(image, field=field))
    assert (status, result["confidence"]) == (200, expected["confidence"])


def test_a_form_has_one_file(client, image):
    for files in ((), (image, image)):
        status, _, answer = client.post("/classify", *form(*files))
        assert status == 400
        assert answer["error"].startswith(f"the form has {len(files)} files; one was expected")


def test_a_form_that_is_cut_off_is_refused_and_fills_no_log(client, image, caplog):
    body, kind = form(image)
    for damaged, its_kind in ((body[:-30], kind), (body, "multipart/form-data"), (body[40:], kind)):
        status, _, answer = client.post("/classify", damaged, its_kind)
        assert (status, "error" in answer) == (400, True)
    host, port = client.host.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as other:
        other.sendall(b"This is no HTTP.\r\n\r\n")
        assert other.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"This is no photograph.", "image/png", 400, "not an image"),
        (b"", "image/png", 400, "the file is empty"),
        (b"GIF89a" + bytes(20), "image/gif", 415, "a GIF; JPEG, PNG, BMP, WebP or TIFF was expected"),
        (b"{}", "application/json", 415, "'application/json'; an image or a form"),
        (b"{}", "text/plain; charset=utf-8", 415, "'text/plain'; an image or a form"),
    ],
)
def test_what_is_not_an_image_is_refused_in_a_sentence(client, body, kind, status, words):
    found, _, answer = client.post("/classify", body, kind)
    assert found == status
    assert words in answer["error"]


def test_a_damaged_image_and_one_of_too_many_pixels_are_refused(client, image):
    status, _, answer = client.post("/classify", image[: len(image) // 2])
    assert (status, "error" in answer) == (400, True)
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + image[24:]
    status, _, answer = client.post("/classify", header)
    assert status == 400
    assert "60000 x 60000" in answer["error"]


def test_a_compressed_body_is_refused(client, image):
    status, _, answer = client.send("POST", "/classify", image, {"Content-Encoding": "gzip"})
    assert (status, answer["error"].partition(";")[0]) == (415, "the body is compressed")


def test_a_body_that_is_too_large_is_refused(client):
    status, _, answer = client.post("/classify", bytes(1_000_001))
    assert (status, answer["error"]) == (413, "the body is larger than the 1 MB allowed; shrink the image")


def test_a_body_that_does_not_say_how_large_it_is_is_refused_as_soon_as_it_is_too_large(client):
    parts = (bytes(100_000) for _ in range(11))
    status, _, answer = client.send("POST", "/classify", parts, encode_chunked=True)
    assert (status, "larger than the 1 MB" in answer["error"]) == (413, True)


def test_a_body_without_an_end_is_cut_off(client):
    host, port = client.host.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as endless:
        endless.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|Broken pipe|abort"):
            send_forever(endless, b"10000\r\n" + bytes(0x10000) + b"\r\n")


def test_whoever_asks_first_is_refused_before_the_body_is_sent(client):
    host, port = client.host.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as polite:
        polite.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\nExpect: 100-continue\r\n\r\n")
        assert polite.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_model_or_an_address_that_does_not_exist_is_named(client, image):
    status, _, answer = client.post("/models/nonsense/classify", image)
    assert (status, answer["error"]) == (404, "there is no model 'nonsense'; there is digits, other")
    status, _, answer = client.get("/nonsense")
    assert (status, answer["error"]) == (404, "GET /nonsense: there is no such address; see /openapi.json")
    status, headers, answer = client.get("/classify")
    assert (status, headers["Allow"]) == (405, "POST")


def test_the_addresses_are_described(client):
    described = client.get("/openapi.json")[2]
    assert {"/classify", "/models/{name}/classify", "/models", "/metrics"} <= set(described["paths"])


def test_labels_that_are_not_valid_text_are_sent_as_json(client):
    from edgeclf.deployment.serving.state import json_response

    assert json.loads(json_response({"label": "\ud800é"}).body) == {"label": "\ud800é"}
