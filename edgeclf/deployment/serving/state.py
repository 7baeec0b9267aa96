"""The parts of a server that its addresses share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...display.json_file import json_bytes
from .engine import Engine, Task
from .metrics import Metrics
from .models import Models
from .refusal import Refusal
from .uploads import Uploads

# As nginx counts it; nobody reads the answer.
_CLIENT_CLOSED = 499


@dataclass(frozen=True)
class Serving:
    """The models of a server, and the parts that carry out its requests."""

    models: Models
    engine: Engine
    uploads: Uploads
    metrics: Metrics

    async def carry_out(self, request: Request, name: str, version: str | None, task: Callable[[bytes], Task]) -> Any:
        """Read a request's body, and return what the engine answers; raises Refusal or what the job raises.

        task: makes the task of the body.
        """
        self.models.current(name, version)
        self.engine.check_room()
        with self.uploads.holding() as body:
            start = time.perf_counter()
            data = await body.read(request)
            self.metrics.stage(name, "read", (time.perf_counter() - start) * 1e3)
            with self.models.using(name, version) as served:
                return await _answer_or_gone(self.engine.submit(served, task(data)), request)


async def _answer_or_gone(future: Future[object], request: Request) -> object:
    """Return a future's answer; if the client is gone before, its job is not begun."""
    answer, gone = asyncio.wrap_future(future), asyncio.ensure_future(_gone(request))
    try:
        both: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Refusal(_CLIENT_CLOSED, "the client is gone")
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a value as JSON; a label may have letters that are not valid in UTF-8."""
    return Response(json_bytes(value), status, headers, "application/json")
