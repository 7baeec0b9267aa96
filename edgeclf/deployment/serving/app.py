"""The server's addresses: classification, the page, and metrics; ``protocol.py`` has those of the Open Inference Protocol."""

from __future__ import annotations

import hashlib
import logging
import re
from base64 import b64encode
from functools import partial
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from edgeclf_runtime import __version__
from edgeclf_runtime.errors import BackendError, ImageError
from edgeclf_runtime.images.formats.picture import UnsupportedError
from edgeclf_runtime.text.prometheus import KIND

from .counted import Counted
from .models import Served
from .pictures import Picture
from .protocol import add_protocol
from .refusal import Refusal
from .state import Serving, json_response

_PAGE = Path(__file__).with_name("page.html")
_log = logging.getLogger(__name__)


def make_app(serving: Serving) -> FastAPI:
    """Return the application of a server."""
    # The pages of FastAPI's own documentation load scripts from another host.
    app = FastAPI(title="edgeclf", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Counted, metrics=serving.metrics)
    app.add_exception_handler(Exception, _failed)
    for kind, answer in ((Refusal, _refused), (HTTPException, _unknown), (ImageError, _no_image)):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(BackendError, _failed)
    _add_classify(app, serving)
    _add_pages(app, serving)
    add_protocol(app, serving)
    return app


def _add_classify(app: FastAPI, serving: Serving) -> None:
    async def answer(request: Request, name: str) -> Response:
        kind = request.headers.get("content-type", "")

        task = partial(Picture, kind=kind, metrics=serving.metrics)
        return json_response(await serving.carry_out(request, name, None, task))

    @app.post("/classify", summary="Classify an image, sent as it is or as the file of a form, with the first model.")
    async def classify_first(request: Request) -> Response:
        return await answer(request, serving.models.names[0])

    @app.post("/models/{name}/classify", summary="Classify an image with a model.")
    async def classify_named(request: Request, name: str) -> Response:
        return await answer(request, name)


def _add_pages(app: FastAPI, serving: Serving) -> None:
    page = _PAGE.read_bytes()
    headers = {"Content-Security-Policy": _policy(page), "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}

    @app.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return Response(page, 200, headers, "text/html; charset=utf-8")

    @app.get("/models", summary="List the models.")
    async def list_models() -> Response:
        return json_response({"models": [facts(serving.models.current(name)) for name in serving.models.names]})

    @app.get("/metrics", summary="Counts and times in Prometheus's format.")
    async def show_metrics() -> Response:
        versions = {name: _labels(serving.models.current(name)) for name in serving.models.names}
        text = serving.metrics.text(serving.engine.waiting, serving.engine.limit, versions)
        return Response(text, media_type=KIND)


def facts(served: Served) -> dict[str, object]:
    """Return what clients may know of an open bundle, in JSON types."""
    return {"name": served.name, **_labels(served), "labels": list(served.classifier.labels)}


def _labels(served: Served) -> dict[str, str]:
    in_use = served.classifier.in_use
    return {"version": served.version, "file": in_use.model, "backend": in_use.runner.backend}


def _policy(page: bytes) -> str:
    """Return a content security policy that allows a page its own script and style, and nothing from elsewhere."""

    def hashes(tag: bytes) -> str:
        blocks = re.findall(b"<%s>(.*?)</%s>" % (tag, tag), page, re.DOTALL)
        return " ".join(f"'sha256-{b64encode(hashlib.sha256(block).digest()).decode()}'" for block in blocks)

    own = f"script-src {hashes(b'script')}; style-src {hashes(b'style')}; img-src data: blob:; connect-src 'self'"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return json_response({"error": str(error)}, error.status, error.headers)


async def _no_image(request: Request, error: Exception) -> Response:
    return json_response({"error": str(error)}, 415 if isinstance(error.__context__, UnsupportedError) else 400)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = f"{request.method} {request.url.path}"[:200]
    why = "there is no such address" if error.status_code == 404 else str(error.detail)
    return json_response({"error": f"{said}: {why}; see /openapi.json"}, error.status_code, dict(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    # The reasons of backends name files of this machine.
    _log.error("%s", error, exc_info=None if isinstance(error, BackendError) else error)
    return json_response({"error": "the model failed; the server's log says why"}, 500)
