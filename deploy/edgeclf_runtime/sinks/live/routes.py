"""The table of everything that the live page's server answers: it is served, and described, from this."""

from typing import TYPE_CHECKING, Callable, Mapping, NamedTuple, Optional, Tuple

from ...bundle.examples import example_number
from ...text import prometheus
from . import answers, overview
from .http import Request
from .openapi import document
from .posted.body import BODY_TIMEOUT_S, MAX_BODY_BYTES

if TYPE_CHECKING:
    from .exchange import Exchange

_EXAMPLE = "/examples/{number}.jpg"
_JSON, _JPEG = "application/json", "image/jpeg"
_TEXT, _HTML = "text/plain; charset=utf-8", "text/html; charset=utf-8"


class Answer(NamedTuple):
    """A possible answer of a route.

    text        what it means
    kind        its media type; "" for an error
    schema      name of its JSON's schema, if it is JSON
    """

    status: int
    text: str
    kind: str = ""
    schema: str = ""


class Route(NamedTuple):
    """One path.

    path        {number} stands for digits
    answer      function that answers a request for it
    summary     what it is for
    answers     its Answers, but for those that every route has
    method      "GET", which also answers HEAD, or "POST", whose requests have a body
    open        needs no token
    """

    path: str
    answer: "Callable[[Exchange, Request], None]"
    summary: str
    answers: Tuple[Answer, ...]
    method: str = "GET"
    open: bool = False

    @property
    def methods(self) -> Tuple[str, ...]:
        """The methods that it answers."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


def _openapi(exchange: "Exchange", request: Request) -> None:
    exchange.reply_json(document(ROUTES, exchange.server.gate.guarded))


def _openapi_of_all(exchange: "Exchange", request: Request) -> None:
    path = overview.PREFIX + "{camera}"
    routes = [*_OVERVIEW, *(route._replace(path=path + route.path) for route in ROUTES)]
    exchange.reply_json(document(routes, exchange.server.gate.guarded))


_PAGE = Answer(200, "the page", _HTML), Answer(401, "a form for the token", _HTML)
_COUNTS = (Answer(200, "its text format", prometheus.KIND),)
_DOCUMENT = (Answer(200, "the document", _JSON),)
_NO_FRAME = Answer(503, "no frame arrived")
_STATE = (Answer(200, "the state and the newest result", _JSON, "State"),)
ROUTES = (
    Route(
        "/",
        answers.page,
        "The page for people.",
        _PAGE,
    ),
    Route("/picture.jpg", answers.picture, "The next frame.", (Answer(200, "an image of it", _JPEG), _NO_FRAME)),
    Route(
        "/picture.mjpg",
        answers.pictures,
        "Frames without end.",
        (Answer(200, "Motion JPEG", "multipart/x-mixed-replace; boundary=picture"),),
    ),
    Route("/state.json", answers.state, "The state that the page shows; the same as /v1/state.", _STATE),
    Route(
        "/metrics",
        answers.counts,
        "The stream's counts for Prometheus.",
        _COUNTS,
    ),
    # One word, which whoever watches the device may know without the token.
    Route(
        "/healthz",
        answers.health,
        "Whether frames arrive.",
        (Answer(200, "ok", _TEXT), Answer(503, "lost or silent", _TEXT)),
        open=True,
    ),
    Route(
        "/events",
        answers.events,
        "The state whenever it changes.",
        (Answer(200, "server-sent events", "text/event-stream"),),
    ),
    Route(
        _EXAMPLE,
        answers.example,
        "A training image's picture.",
        (Answer(200, "the picture", _JPEG), Answer(404, "there is none")),
    ),
    Route("/v1/state", answers.state, "The stream's present state, its newest result, counts.", _STATE),
    Route(
        "/v1/events",
        answers.history,
        "The latest events of labels and of the stream.",
        (Answer(200, "the events", _JSON, "Events"),),
    ),
    Route(
        "/v1/labels",
        answers.band,
        "The most frequent label of each ten seconds in the last hour.",
        (Answer(200, "the labels", _JSON, "Labels"),),
    ),
    Route(
        "/v1/classify",
        answers.classify,
        "The result of a picture, with --live-classify.",
        (
            Answer(200, "the result", _JSON, "Result"),
            Answer(400, "the body is not a picture"),
            Answer(403, "--live-classify was not given"),
            Answer(408, "the body did not arrive within {:g} s".format(BODY_TIMEOUT_S)),
            Answer(411, "there is no Content-Length"),
            Answer(413, "the body has more than {} bytes".format(MAX_BODY_BYTES)),
            Answer(415, "it is of another type, or compressed"),
            Answer(417, "Expect has another value than 100-continue"),
            Answer(503, "others wait; Retry-After says when to try again"),
        ),
        "POST",
    ),
    Route("/v1/openapi.json", _openapi, "This document.", _DOCUMENT),
)
_OVERVIEW = (
    Route(
        "/",
        overview.page,
        "The page of all cameras.",
        _PAGE,
    ),
    Route(
        "/metrics",
        overview.counts,
        "The counts of every stream for Prometheus.",
        _COUNTS,
    ),
    Route(
        "/healthz",
        overview.health,
        "Whether every camera's frames arrive.",
        (Answer(200, "ok", _TEXT), Answer(503, "one is lost or silent", _TEXT)),
        open=True,
    ),
    Route(
        "/v1/cameras",
        overview.cameras,
        "Each camera's name, address and present state.",
        (Answer(200, "the cameras", _JSON, "Cameras"),),
    ),
    Route("/v1/openapi.json", _openapi_of_all, "This document.", _DOCUMENT),
)
METHODS = tuple(sorted({method for route in ROUTES for method in route.methods}))
Routes = Mapping[str, Route]
"""Routes by their paths."""
CAMERA: Routes = {route.path: route for route in ROUTES}
OVERVIEW: Routes = {route.path: route for route in _OVERVIEW}


def find_route(routes: Routes, path: str) -> Optional[Route]:
    """Return the Route of a path, or None."""
    return routes.get(_EXAMPLE if example_number(path[1:]) is not None else path)
