"""The answers to the live page's requests: the page, its images, its state, the metrics, the result of a posted picture."""

import json
import logging
import time
from typing import TYPE_CHECKING

from ...bundle.examples import example_number
from ...errors import BundleError
from ...text import prometheus
from .history import SLOT_S
from .http import Refusal, Request
from .metrics import counts_of
from .posted.body import BODY_TIMEOUT_S, Body, kind_of, length_of, picture_in

if TYPE_CHECKING:
    from ...files.schema import JsonObject
    from .exchange import Exchange
    from .posted.classify_queue import ClassifyQueue

EVENTS_PER_S = 10
HEARTBEAT_S = 1.0
ANSWER_TIMEOUT_S = 30.0  # for the picture's turn and its inference
JSON = "application/json"
_NEXT_PICTURE = b"--picture\r\nContent-Type: image/jpeg\r\n\r\n"
_log = logging.getLogger(__name__)


def page(exchange: "Exchange", request: Request) -> None:
    """Answer with the page itself."""
    exchange.reply(200, "text/html; charset=utf-8", exchange.server.page.text)


def example(exchange: "Exchange", request: Request) -> None:
    """Answer with a training image's picture, if the bundle's manifest lists it."""
    number = example_number(request.path[1:])
    file = None if number is None else exchange.sink.examples.get(number)
    if file is None:
        raise Refusal(404, "there is no such training image in the bundle")
    try:
        picture = file.read()
    except BundleError as error:
        exchange.sink.examples.clear()  # logged once; what else was changed is not served either
        _log.warning("the live page shows no training images any more: %s", error)
        raise Refusal(404, "the training image cannot be read: see the program's log")
    # Its address names the bundle, so it never changes.
    exchange.reply(200, "image/jpeg", picture, ("Cache-Control", "private, max-age=86400, immutable"))


def state(exchange: "Exchange", request: Request) -> None:
    """Answer with the stream's present state and newest result."""
    exchange.reply_json(dict(exchange.sink.state(), labels=exchange.sink.labels))


def history(exchange: "Exchange", request: Request) -> None:
    """Answer with the latest events of labels and states."""
    exchange.reply_json({"now": round(time.time(), 3), "events": exchange.sink.events()})


def band(exchange: "Exchange", request: Request) -> None:
    """Answer with the most frequent label of each ten seconds in the last hour."""
    exchange.reply_json({"slot_s": SLOT_S, "runs": exchange.sink.band()})


def counts(exchange: "Exchange", request: Request) -> None:
    """Answer with the stream's counts as Prometheus reads them."""
    exchange.reply(200, prometheus.KIND, counts_of([exchange.sink]).encode("utf-8"))


def health(exchange: "Exchange", request: Request) -> None:
    """Answer with one word: whether frames arrive."""
    name = exchange.sink.state()["state"]
    status, word = (200, "ok") if name == "live" else (503, name)
    exchange.reply(status, "text/plain; charset=utf-8", "{}\n".format(word).encode("ascii"))


def picture(exchange: "Exchange", request: Request) -> None:
    """Answer with the next frame."""
    found = exchange.sink.picture(0, 2 * HEARTBEAT_S, exchange.gone)
    if found is None:
        raise Refusal(503, "no frame arrived within {:g} s".format(2 * HEARTBEAT_S))
    exchange.reply(200, "image/jpeg", found[1])


def pictures(exchange: "Exchange", request: Request) -> None:
    """Answer with frames without end."""
    number = 0
    exchange.watch(request, "pictures", "multipart/x-mixed-replace; boundary=picture", _NEXT_PICTURE)
    while exchange.watched():
        found = exchange.sink.picture(number, HEARTBEAT_S, exchange.gone)
        if found is not None:
            number, jpeg = found
            # Firefox shows an image once it has seen the boundary after it, Chromium the next image's headers, so these are
            # sent right away: without the length, which is not known yet.
            exchange.client.send(jpeg + b"\r\n" + _NEXT_PICTURE)


def events(exchange: "Exchange", request: Request) -> None:
    """Answer with the state whenever it changes, without end."""
    exchange.watch(request, "events", "text/event-stream", b"retry: 1000\n\n")
    news, shown = -1, exchange.client.page
    while exchange.watched():
        news = exchange.sink.wait(news, HEARTBEAT_S, exchange.gone)
        found = exchange.sink.state()
        if shown:
            found["pictures"] = exchange.server.clients.shows(shown)
        exchange.client.send(b"data: " + json.dumps(found).encode("ascii") + b"\n\n")
        exchange.client.pause(1.0 / EVENTS_PER_S)


def classify(exchange: "Exchange", request: Request) -> None:
    """Answer with the result of the picture in the request's body."""
    queue = exchange.sink.queue
    if queue is None:
        raise Refusal(403, "posted pictures are not classified: start the program with --live-classify")
    try:
        result = _result_of_body(exchange, request, queue)
    except Refusal as refusal:
        queue.counts.answer(refusal.status)
        raise
    queue.counts.answer(200)
    exchange.reply_json(result)


def _result_of_body(exchange: "Exchange", request: Request, queue: "ClassifyQueue") -> "JsonObject":
    kind, length = kind_of(request), length_of(request)
    queue.check_room()
    with Body(queue.memory) as body:
        exchange.expect_body(request, BODY_TIMEOUT_S)
        body.read(length, request.rest, exchange.client.receive)
        exchange.client.expect(ANSWER_TIMEOUT_S)
        return queue.classify(lambda: picture_in(request, kind, body.content), exchange.gone)
