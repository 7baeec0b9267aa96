"""The description of what the live page's server answers, compared with what it answers."""

import json
import re

import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.results import ENDED, Origin, StreamEvent
from edgeclf_runtime.sinks.live import answers
from edgeclf_runtime.sinks.live.access import Access
from edgeclf_runtime.sinks.live.openapi import document
from edgeclf_runtime.sinks.live.routes import ROUTES, Route
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.attackers import say
from tests.support.pictures import noise
from tests.support.posting import HEAD, PNG, Desk, message
from tests.support.results import came, result, went
from tests.support.schemas import faults
from tests.support.watching import ask

ORIGIN = Origin("0123456789ab", "", "line 4", "door")
OPERATION = {"operationId", "summary", "responses", "parameters", "requestBody", "security"}
BEARER = {"Authorization": "Bearer geheim"}


@pytest.fixture
def sink(monkeypatch):
    monkeypatch.setattr(answers, "HEARTBEAT_S", 0.01)
    with LiveSink(":0", ["3"], classify=Desk().classify, origin=ORIGIN) as opened:
        yield opened


@pytest.fixture
def guarded(monkeypatch):
    monkeypatch.setattr(answers, "HEARTBEAT_S", 0.01)
    with LiveSink(":0", ["3"], access=Access(token=b"geheim"), classify=Desk().classify) as opened:
        yield opened


def read(sink, **headers):
    answer = ask(sink, "/v1/openapi.json", **headers)
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json")
    return json.loads(answer.read().decode("ascii"))


def stated(found, path, method, status):
    """The stated response of a route."""
    return found["paths"][path][method.lower()]["responses"][str(status)]


def test_the_document_has_the_form_of_openapi_31(sink, guarded):
    for found in (read(sink), read(guarded, **BEARER)):
        assert set(found) == {"openapi", "info", "servers", "paths", "components"}
        assert found["openapi"] == "3.1.0"
        assert set(found["info"]) == {"title", "version", "description"}
        operations = [one for path in found["paths"].values() for one in path.values()]
        assert len({one["operationId"] for one in operations}) == len(operations)
        for one in operations:
            assert set(one) <= OPERATION
            assert {"operationId", "summary", "responses"} <= set(one)
            for status, response in one["responses"].items():
                assert re.match("[2-5][0-9][0-9]$", status)
                assert {"description"} <= set(response) <= {"description", "content"}
        for path, methods in found["paths"].items():
            names = [one["name"] for method in methods.values() for one in method.get("parameters", ())]
            assert names == re.findall(r"{(\w+)}", path)


def test_every_reference_leads_to_a_schema_and_every_schema_is_used(sink):
    found = read(sink)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)))
    assert named == set(found["components"]["schemas"])


def test_the_server_answers_exactly_the_routes_of_the_document(sink):
    found = read(sink)
    assert {(route.path, route.method.lower()) for route in ROUTES} == {
        (path, method) for path, methods in found["paths"].items() for method in methods
    }
    listed = ask(sink, "/nothing").read().decode("ascii").partition("available: ")[2].strip()
    assert listed.split(", ") == list(found["paths"])


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_each_route_answers_as_stated(sink, route):
    found, path = read(sink), route.path.replace("{number}", "7")
    answer = ask(sink, path, "HEAD" if route.path in ("/events", "/picture.mjpg") else route.method)
    response = stated(found, route.path, route.method, answer.status)
    (kind,) = response["content"]
    assert answer.getheader("Content-Type") == kind
    schema = response["content"][kind]["schema"]
    if kind == "application/json" and schema:
        assert list(faults(json.loads(answer.read().decode("ascii")), schema, found)) == []
    other = "POST" if route.method == "GET" else "GET"
    assert ask(sink, path, other).status == 405


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_each_route_needs_the_token_as_stated(guarded, route):
    found, path = read(guarded, **BEARER), route.path.replace("{number}", "7")
    answer = ask(guarded, path, route.method)
    operation = found["paths"][route.path][route.method.lower()]
    assert (answer.status == 401) == bool(operation["security"]) != route.open
    assert ("401" in operation["responses"]) != route.open
    if answer.status == 401:
        assert [answer.getheader("Content-Type")] == list(operation["responses"]["401"]["content"])
    if not route.open and route.method == "GET":
        assert "303" in operation["responses"]
        assert ask(guarded, path + "?token=geheim").status == 303


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (message(content=PNG), 200),
        (message(content=b"x"), 400),
        (message(b"Origin: http://evil.example"), 403),
        (HEAD + b"\r\n", 411),
        (message(length=1 << 40), 413),
        (message(b"Content-Type: text/plain"), 415),
        (message(b"Expect: x"), 417),
    ],
)
def test_a_posted_picture_is_answered_as_stated(sink, request_, status):
    found = read(sink)
    head, _, content = say(sink, request_).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    schema = stated(found, "/v1/classify", "post", status)["content"]["application/json"]["schema"]
    assert list(faults(json.loads(content.decode("ascii")), schema, found)) == []


def test_states_events_and_results_have_the_fields_that_are_stated(sink, bundle):
    found = read(sink)
    sink.write(result(7, name="a.jpg")._replace(origin=ORIGIN))
    sink.label_event(came()._replace(origin=ORIGIN))
    sink.label_event(went()._replace(position_s=1.0))
    for name in ("lost", "live", "degraded", "restored", "changed", "normal"):
        sink.event(StreamEvent(name, "it is", 1.0, ORIGIN, ("dark",) if name == "changed" else ()))
    for path in ("/v1/state", "/v1/events", "/v1/labels"):
        schema = stated(found, path, "get", 200)["content"]["application/json"]["schema"]
        assert list(faults(json.loads(ask(sink, path).read().decode("ascii")), schema, found)) == []
    with Classifier.open(bundle, "fp32") as classifier:
        classified = classifier.classify(noise(64, 48))
    for one in (classified, classified._replace(rejected=True, reason="distance", distance=9.0, label_set=("3",))):
        assert list(faults(one.to_dict(), {"$ref": "#/components/schemas/Result"}, found)) == []


def test_a_route_that_is_added_is_described_and_one_that_is_removed_is_not():
    added = Route("/v1/new", answers.page, "New.", ())
    assert list(document((*ROUTES, added), True)["paths"])[-1] == "/v1/new"
    assert "/v1/state" not in document([route for route in ROUTES if route.path != "/v1/state"], True)["paths"]


def test_the_check_of_values_finds_what_is_wrong(sink):
    found = read(sink)
    for value, fault in (
        ({}, "it lacks error"),
        ({"error": 1}, "it.error is 1, expected ['string']"),
        ({"error": "x", "more": 1}, "it has more, which its schema does not"),
    ):
        assert list(faults(value, {"$ref": "#/components/schemas/Error"}, found)) == [fault]


def test_every_reason_for_which_an_event_ends_is_stated():
    described = document(ROUTES, guarded=False)
    for reason in ENDED:
        line = dict(went(3, reason=reason).to_dict(), number=1)
        assert list(faults(line, described["components"]["schemas"]["LabelEvent"], described)) == []
