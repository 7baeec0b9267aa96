"""Why a result is unknown, on the live page, and the bundle's pictures of training images."""

import json
import logging

import pytest

from edgeclf_runtime.bundle.examples import MOST_BYTES, example_name, examples_of
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.results import Limits, NearImage
from edgeclf_runtime.sinks.live.access import Access
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.pictures import encode, noise
from tests.support.results import result
from tests.support.sealing import flip_byte, replace_file
from tests.support.watching import ask

LIMITS = Limits(0.8, usual_distance=2.9, most_distance=4.0)
JPEG = encode(".jpg", noise(48, 48))


@pytest.fixture
def shown(copied):
    """The bundle with pictures of the training images 0 and 40, and files that are none."""
    (copied / "examples").mkdir()
    for name in (example_name(0), example_name(40), "examples/04.jpg", "examples/7.png"):
        replace_file(copied, name, JPEG)
    replace_file(copied, example_name(8), JPEG + bytes(MOST_BYTES))
    return copied


def page(shown, **options):
    return LiveSink(":0", ["cat", "dog"], limits=lambda model: LIMITS, bundle=open_bundle(shown), **options)


def strange(*nearest):
    item = result(label="unknown", confidence=0.99, candidate="cat")
    return item._replace(
        result=item.result._replace(reason="distance", distance=6.2, nearest=nearest, label_set=("cat",))
    )


def state(sink):
    return json.loads(ask(sink, "/state.json").read().decode("ascii"))


def test_an_unknown_result_has_its_reason_and_the_nearest_images_with_their_pictures(shown):
    with page(shown) as sink:
        before = state(sink)
        sink.write(strange(NearImage("dog", 40), NearImage("cat", 7)))
        found = state(sink)
    assert (before["why"], before["nearest"], before["room"]) == ("", [], [])
    assert found["why"] == "like no training image: distance 6.2, usual is up to 2.9"
    version = open_bundle(shown).id[:12]
    assert found["nearest"] == [
        {"label": "dog", "picture": f"examples/40.jpg?bundle={version}"},
        {"label": "cat", "picture": None},
    ]
    assert found["room"] == ["nearest", "pictures", "why"]
    assert found["result"]["label_set"] == ["cat"]


def test_the_page_keeps_room_only_for_what_may_come():
    for limits, room in (
        (Limits(), []),
        (Limits(threshold=0.5), ["why"]),
        (Limits(usual_distance=2.9, sets=True), ["label_set", "why"]),
        (Limits(usual_distance=2.9, most_distance=4.0), ["nearest", "why"]),
    ):
        with LiveSink(":0", ["cat"], limits=lambda model, limits=limits: limits) as sink:
            sink.write(result())
            assert sink.state()["room"] == room


def test_a_picture_is_served_from_the_bundle_and_may_be_kept_by_the_browser(shown):
    assert sorted(examples_of(open_bundle(shown))) == [0, 40]
    with page(shown) as sink:
        answer = ask(sink, "/examples/40.jpg?bundle=whatever")
        assert (answer.status, answer.getheader("Content-Type"), answer.read()) == (200, "image/jpeg", JPEG)
        assert answer.msg.get_all("Cache-Control") == ["private, max-age=86400, immutable"]
        assert "unsafe" not in answer.getheader("Content-Security-Policy")
        assert ask(sink, "/examples/0.jpg", "HEAD").read() == b""


@pytest.mark.parametrize("name", ["7.jpg", "8.jpg", "04.jpg", "7.png", "../manifest.json", "40.jpg/", "", "4%30.jpg"])
def test_nothing_else_of_the_bundle_is_served(shown, name):
    with page(shown) as sink:
        answer = ask(sink, "/examples/" + name)
        assert (answer.status, answer.getheader("Cache-Control")) == (404, "no-store")


def test_a_picture_that_was_changed_is_not_served_and_logged_once(shown, caplog):
    with page(shown) as sink:
        sink.write(strange(NearImage("dog", 40)))
        flip_byte(shown / "examples" / "40.jpg", 30)
        with caplog.at_level(logging.WARNING):
            assert [ask(sink, "/examples/40.jpg").status for _ in range(2)] == [404, 404]
        assert state(sink)["nearest"] == [{"label": "dog", "picture": None}]
    (message,) = caplog.messages
    assert "shows no training images any more" in message
    assert "40.jpg was changed" in message


def test_a_picture_needs_the_token_and_a_name_of_this_machine(shown):
    with page(shown, access=Access(token=b"a token of some length")) as sink:
        assert ask(sink, "/examples/40.jpg").status == 401
        assert ask(sink, "/examples/40.jpg", Authorization="Bearer a token of some length").status == 200
        assert ask(sink, "/examples/40.jpg", Host="evil.example").status == 403
        moved = ask(sink, "/examples/40.jpg?token=a%20token%20of%20some%20length")
        assert (moved.status, moved.getheader("Location")) == (303, "./40.jpg")
