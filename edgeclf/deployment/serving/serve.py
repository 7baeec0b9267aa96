"""Serves bundles over HTTP until it is interrupted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.text.terminal import printable

from ...display.json_file import json_text
from ...display.progress import say
from ...errors import DependencyError
from ...options import ServeOptions, merged
from .engine import Engine
from .metrics import Metrics
from .models import Models, named_paths, open_served
from .replacement import Replacement

if TYPE_CHECKING:
    from .server import Server

_NEEDS = ("fastapi", "uvicorn", "python_multipart")


@dataclass(frozen=True)
class Listening:
    """A server that answers: its address, and each open bundle's name, version, model file, backend and labels."""

    server: Server
    models: tuple[dict[str, object], ...]

    @property
    def address(self) -> str:
        """The server's URL, without a slash at its end."""
        return self.server.address

    def to_dict(self) -> JsonObject:
        """The address and the models as a JSON-compatible dict."""
        return {"address": self.address, "models": list(self.models)}

    def to_json(self) -> str:
        """The same as one JSON object."""
        return json_text(self.to_dict())

    def wait(self) -> None:
        """Wait until the server ends; raises EdgeclfError if it does so by itself."""
        self.server.wait()

    def __str__(self) -> str:
        lines = [f"{one['name']}: {one['file']} on {one['backend']}, version {one['version']}" for one in self.models]
        return printable("\n".join([*lines, f"serving on {self.address} (Ctrl-C ends it)"]), "\n")


def serve(bundles: str | Path | Sequence[str | Path], options: ServeOptions | None = None, **keywords: object) -> None:
    """Serve bundles over HTTP until Ctrl-C, a KeyboardInterrupt.

    bundles: paths, or NAME=PATH; the name of a path is its folder's, without .edge.  Raises DependencyError without FastAPI,
    OptionError for two bundles of one name, BundleError or BackendError for one that cannot be opened, and EdgeclfError for a
    host or port that cannot be used.
    """
    with listening(bundles, merged(ServeOptions, options, keywords)) as server:
        say(str(server))
        server.wait()


@contextmanager
def listening(bundles: str | Path | Sequence[str | Path], options: ServeOptions) -> Iterator[Listening]:
    """Open bundles, and serve them as long as the block runs; see serve()."""
    _check_installed()
    from .app import facts, make_app
    from .server import Server
    from .state import Serving
    from .uploads import Uploads

    given = [bundles] if isinstance(bundles, (str, Path)) else bundles
    paths = named_paths([str(one) for one in given])
    at_once = options.at_once or cores()
    with ExitStack() as stack:
        models = Models()
        stack.callback(models.close)
        # A port that is taken is reported before seconds are spent on opening models.
        engine = Engine(at_once, options.queue, metrics := Metrics())
        stack.callback(engine.close)
        serving = Serving(models, engine, Uploads(options.max_mb * 1_000_000), metrics)
        server = Server(make_app(serving), options.host, options.port)
        stack.callback(server.stop)
        _warn_of_network(server.address)
        for name, path in paths.items():
            say(f"opening {name}; the first time here, its models and backends are measured, for seconds")
            models.add(open_served(name, path, options.top_k, at_once, tune=None))
        server.start()
        # Measuring takes all processors, which answer requests by now.
        again = partial(open_served, top_k=options.top_k, at_once=at_once, tune=False)
        replacement = Replacement(models, paths, again, serving.metrics)
        stack.callback(replacement.close)
        replacement.start()
        yield Listening(server, tuple(facts(models.current(name)) for name in paths))


def _warn_of_network(address: str) -> None:
    host = str(urlsplit(address).hostname)
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        say(f"warning: {address} answers everyone who can reach it; there is no password and no encryption")


def _check_installed() -> None:
    missing = [name for name in _NEEDS if not find_spec(name)]
    if missing:
        raise DependencyError(
            f"serving needs {', '.join(missing).replace('_', '-')}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            "install it: python3 -m pip install 'edgeclf[serve]'"
        )
