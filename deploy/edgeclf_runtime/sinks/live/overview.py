"""The answers about all cameras of one program, when several share the live page's server."""

from typing import TYPE_CHECKING, Dict

from ...text import prometheus
from .http import Request
from .metrics import counts_of

if TYPE_CHECKING:
    from .exchange import Exchange
    from .sink import LiveSink

PREFIX = "/camera/"
BRIEF = ("state", "state_s", "reason", "degraded", "changed", "frames", "frames_per_s", "dropped", "events")
SHOWN = ("label", "rejected", "candidate", "confidence")
"""Fields of a camera's state and of its result that stand in the list of cameras."""


def page(exchange: "Exchange", request: Request) -> None:
    """Answer with the page that shows every camera."""
    exchange.policy = exchange.server.overview.policy
    exchange.reply(200, "text/html; charset=utf-8", exchange.server.overview.text)


def cameras(exchange: "Exchange", request: Request) -> None:
    """Answer with the name, the address and the present state of each camera."""
    found = exchange.server.cameras()
    title = next((sink.title for sink in found.values()), "")
    exchange.reply_json({"title": title, "cameras": [_brief(name, sink) for name, sink in found.items()]})


def _brief(name: str, sink: "LiveSink") -> Dict[str, object]:
    state = sink.state()
    result = state["result"]
    assert result is None or isinstance(result, dict)
    shown = {key: result[key] for key in SHOWN} if result else None
    # Relative to the page of all cameras.
    place = {"name": name, "address": "{}{}/".format(PREFIX[1:], name)}
    return dict(place, **{key: state[key] for key in BRIEF}, result=shown)


def counts(exchange: "Exchange", request: Request) -> None:
    """Answer with the counts of every stream as Prometheus reads them."""
    exchange.reply(200, prometheus.KIND, counts_of(exchange.server.cameras().values()).encode("utf-8"))


def health(exchange: "Exchange", request: Request) -> None:
    """Answer with one word: whether every camera's frames arrive; otherwise with the first word that is not ok."""
    words = [str(sink.state()["state"]) for sink in exchange.server.cameras().values()]
    word = next((word for word in words if word != "live"), "ok" if words else "silent")
    exchange.reply(200 if word == "ok" else 503, "text/plain; charset=utf-8", "{}\n".format(word).encode("ascii"))
