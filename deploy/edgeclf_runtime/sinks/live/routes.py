"""The table of everything that the live page's server answers, by path."""

from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Tuple

from ...bundle.examples import example_number
from . import answers
from .http import Request

if TYPE_CHECKING:
    from .exchange import Exchange

HEALTH = "/healthz"
_EXAMPLE = "/examples/{number}.jpg"


class Route(NamedTuple):
    """One path.

    path        {number} stands for digits
    answer      function that answers a request for it
    method      "GET", which also answers HEAD, or "POST", whose requests have a body
    open        needs no token
    """

    path: str
    answer: "Callable[[Exchange, Request], None]"
    method: str = "GET"
    open: bool = False

    @property
    def methods(self) -> Tuple[str, ...]:
        """The methods that it answers."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


ROUTES = (
    Route("/", answers.page),
    Route("/picture.jpg", answers.picture),
    Route("/picture.mjpg", answers.pictures),
    Route("/state.json", answers.state),
    Route("/metrics", answers.counts),
    # One word, which whoever watches the device may know without the token.
    Route(HEALTH, answers.health, open=True),
    Route("/events", answers.events),
    Route(_EXAMPLE, answers.example),
    Route("/v1/state", answers.state),
    Route("/v1/events", answers.history),
    Route("/v1/classify", answers.classify, "POST"),
)
METHODS = tuple(sorted({method for route in ROUTES for method in route.methods}))
_BY_PATH = {route.path: route for route in ROUTES}


def find_route(path: str) -> Optional[Route]:
    """Return the Route of a path, or None."""
    return _BY_PATH.get(_EXAMPLE if example_number(path[1:]) is not None else path)
