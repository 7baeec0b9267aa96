"""The addresses of the Open Inference Protocol: /v2."""

from __future__ import annotations

import numpy as np
from fastapi import FastAPI, Request, Response

from edgeclf_runtime import __version__
from edgeclf_runtime.classify.classifier import Inferred

from . import tensors
from .models import Served
from .state import Serving, json_response


class Tensors:
    """Infers from a request's tensors; the answer is that of tensors.answer()."""

    def __init__(self, data: bytes, json_size: str | None) -> None:
        self._data, self._json_size = data, json_size

    def prepare(self, served: Served) -> np.ndarray:
        """See engine.Task; raises Refusal."""
        self._request = tensors.parse(served, self._data, self._json_size)
        return self._request.batch

    def finish(self, served: Served, inferred: Inferred) -> object:
        """See engine.Task."""
        return tensors.answer(served, self._request, inferred)


def add_protocol(app: FastAPI, serving: Serving) -> None:
    """Add the protocol's addresses to an application."""
    _add_health(app, serving)
    _add_models(app, serving)


def _add_health(app: FastAPI, serving: Serving) -> None:
    @app.get("/v2", summary="The server's name, version and extensions.")
    async def server_metadata() -> Response:
        return json_response({"name": "edgeclf", "version": __version__, "extensions": ["binary_tensor_data"]})

    @app.get("/v2/health/live", summary="Status 200 if the server answers.")
    async def live() -> Response:
        return Response()

    @app.get("/v2/health/ready", summary="Status 200 if every model can be used.")
    async def ready() -> Response:
        serving.engine.check_moves()
        for name in serving.models.names:
            serving.models.check_works(name)
        return Response()


def _add_models(app: FastAPI, serving: Serving) -> None:
    async def metadata(name: str, version: str | None = None) -> Response:
        return json_response(tensors.metadata(serving.models.current(name, version)))

    async def ready(name: str, version: str | None = None) -> Response:
        serving.models.check_works(name, version)
        return Response()

    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        json_size = request.headers.get(tensors.JSON_SIZE)

        body, size = await serving.carry_out(request, name, version, lambda data: Tensors(data, json_size))
        if size is None:
            return Response(body, media_type="application/json")
        return Response(body, 200, {tensors.JSON_SIZE: str(size)}, "application/octet-stream")

    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.get(path, summary="What a model takes and gives.")(metadata)
        app.get(f"{path}/ready", summary="Status 200 if a model can be used.")(ready)
        app.post(f"{path}/infer", summary="Infer from tensors, in JSON or binary.")(infer)
