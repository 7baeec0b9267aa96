"""Several cameras on one live page: an address for each, and one for all."""

import json
import re

import pytest

from edgeclf_runtime.results import Origin, StreamEvent
from edgeclf_runtime.sinks.live.access import Access
from edgeclf_runtime.sinks.live.server import LivePage
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.results import result
from tests.support.watching import ask

LOST = StreamEvent("lost", "no answer from rtsp://10.0.0.7/secret", 0.0)


def camera(page, name):
    return LiveSink(page, ["cat", "dog"], "pets", origin=Origin(camera=name))


@pytest.fixture
def two():
    """The sinks of two cameras on one page."""
    page = LivePage(":0", several=True)
    with camera(page, "door") as door, camera(page, "yard") as yard:
        yield door, yard


def get(sink, path, **headers):
    answer = ask(sink, path, **headers)
    return answer.status, answer.read().decode("utf-8")


def root(sink):
    """What ask() needs of the address of all cameras."""
    return sink._server


def test_each_camera_has_its_own_state_below_its_name(two):
    door, yard = two
    assert door.url == root(door).url + "camera/door/"
    yard.write(result())
    for name, frames in (("door", 0), ("yard", 1)):
        status, body = get(root(door), f"/camera/{name}/v1/state")
        state = json.loads(body)
        assert (status, state["camera"], state["frames"], state["shared"]) == (200, name, frames, True)


def test_all_cameras_are_listed_with_what_they_see_and_no_address_of_theirs(two):
    door, yard = two
    door.event(LOST)
    yard.write(result())
    _, body = get(root(door), "/v1/cameras")
    found = json.loads(body)
    assert found["title"] == "pets"
    assert [(one["name"], one["address"], one["state"]) for one in found["cameras"]] == [
        ("door", "camera/door/", "lost"),
        ("yard", "camera/yard/", "live"),
    ]
    assert found["cameras"][0]["result"] is None
    assert set(found["cameras"][1]["result"]) == {"label", "rejected", "candidate", "confidence"}
    assert "10.0.0.7" not in body


def test_all_is_well_when_every_camera_is_live(two):
    door, yard = two
    yard.write(result())
    assert get(root(door), "/healthz") == (503, "silent\n")
    door.write(result())
    assert get(root(door), "/healthz") == (200, "ok\n")
    door.event(LOST)
    assert get(root(door), "/healthz") == (503, "lost\n")
    assert get(root(door), "/camera/yard/healthz") == (200, "ok\n")


def test_the_counts_of_all_cameras_are_one_text_with_each_metric_once(two):
    for sink, count in zip(two, (2, 5)):
        for _ in range(count):
            sink.write(result())
    _, text = get(root(two[0]), "/metrics")
    types = re.findall("# TYPE (\\S+)", text)
    assert len(types) == len(set(types))
    counts = dict(re.findall('edgeclf_result_age_seconds_count\\{camera="(\\w+)".*?\\} (\\S+)', text))
    assert counts == {"door": "2.0", "yard": "5.0"}
    assert text.count("process_cpu_seconds_total ") == 3  # its help, its type and one sample
    _, own = get(root(two[0]), "/camera/door/metrics")
    assert 'camera="yard"' not in own


@pytest.mark.parametrize("path", ["/camera/", "/camera/cellar/", "/camera/door", "/camera/door/nothing", "/state.json"])
def test_another_address_says_what_there_is(two, path):
    status, body = get(root(two[0]), path)
    assert status == 404
    assert "/v1/cameras" in body or "/camera/door/, /camera/yard/" in body or "/picture.jpg" in body


def test_one_token_is_for_every_camera_and_names_are_not_told_without():
    page = LivePage(":0", Access(token=b"geheim"), several=True)
    with camera(page, "door") as door, camera(page, "yard"):
        for path in ("/", "/v1/cameras", "/camera/yard/v1/state", "/camera/cellar/"):
            status, body = get(root(door), path)
            assert status == 401
            assert "yard" not in body
        for path in ("/v1/cameras", "/camera/yard/v1/state"):
            assert get(root(door), path, Authorization="Bearer geheim")[0] == 200
        assert get(root(door), "/healthz")[0] == get(root(door), "/camera/yard/healthz")[0] == 503


def test_a_camera_that_ends_leaves_the_page_and_the_last_one_ends_it(two):
    door, yard = two
    door.close()
    assert [one["name"] for one in json.loads(get(root(yard), "/v1/cameras")[1])["cameras"]] == ["yard"]
    assert get(root(yard), "/camera/door/")[0] == 404
    yard.close()
    with pytest.raises(OSError, match=r".*"):
        ask(root(yard), "/healthz")


def test_a_single_camera_with_a_name_has_the_first_page():
    with camera(LivePage(":0"), "door") as door:
        assert door.url == root(door).url
        for path in ("/v1/state", "/camera/door/v1/state"):
            status, body = get(door, path)
            assert (status, json.loads(body)["camera"], json.loads(body)["shared"]) == (200, "door", False)


def test_the_document_describes_the_list_and_the_addresses_of_each_camera(two):
    found = json.loads(get(root(two[0]), "/v1/openapi.json")[1])
    assert {"/v1/cameras", "/healthz", "/camera/{camera}/v1/state"} <= set(found["paths"])
    [parameter] = found["paths"]["/camera/{camera}/v1/state"]["get"]["parameters"]
    assert (parameter["name"], parameter["schema"]) == ("camera", {"type": "string"})
    assert set(found["components"]["schemas"]["Cameras"]["properties"]) == {"title", "cameras"}
