"""The bundles that a server has open, by name; a bundle that was replaced closes when the last request has left it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier

from ...errors import BackendError, OptionError
from .refusal import Refusal

# Of one inference: more take more memory, and let others wait longer.
_MOST_IMAGES = 8
_TRIED, _ROUNDS, _GAIN = 4, 5, 0.85


@dataclass(eq=False)
class Served:
    """An open bundle.

    version: the first digits of the bundle's id, as in results.  inside: number of requests that use it.  retired: whether
    another has taken its place.
    failed: whether the last inference found no backend that works.  most: number of images that the model takes at once.
    joined: number of requests that are inferred together if they wait.
    """

    name: str
    version: str
    classifier: Classifier
    inside: int = 0
    retired: bool = False
    failed: bool = False
    most: int = 1
    joined: int = 1


def open_served(name: str, path: str | Path, top_k: int, at_once: int, tune: bool | None = False) -> Served:
    """Verify a bundle and open it with the best backend here; at_once: number of images at the same time.

    tune: as for Classifier.open().  Raises BundleError or BackendError.
    """
    bundle = open_bundle(path)
    classifier = Classifier.open(bundle, top_k=top_k, at_once=at_once, tune=tune)
    most = _MOST_IMAGES if _takes_batches(classifier) else 1
    joined = _MOST_IMAGES if most > 1 and _gains(classifier) else 1
    return Served(name, bundle.id[:12], classifier, most=most, joined=joined)


def _takes_batches(classifier: Classifier) -> bool:
    try:
        # Not by the classifier, which would replace a backend that fails.
        classifier.runner.infer(_gray(classifier, _TRIED))
    except BackendError:
        return False
    return True


def _gains(classifier: Classifier) -> bool:
    """Return whether images are inferred notably faster together than one after another, in one thread."""
    one, several = _gray(classifier, 1), _gray(classifier, _TRIED)
    times: dict[int, list[float]] = {1: [], _TRIED: []}
    for _ in range(_ROUNDS):
        for batch in (one, several):
            start = time.perf_counter()
            for _ in range(_TRIED // len(batch)):
                classifier.infer(batch)
            times[len(batch)].append(time.perf_counter() - start)
    return min(times[_TRIED]) < _GAIN * min(times[1])


def _gray(classifier: Classifier, images: int) -> np.ndarray:
    spec = classifier.preprocessing
    return np.full((images, spec.height, spec.width, 3), 128, np.float32)


class Models:
    """Open bundles by name, in the order in which they were added; threads may share it."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._lock = threading.Lock()
        self._closed = False

    def add(self, served: Served) -> None:
        """Add an open bundle."""
        self._served[served.name] = served

    @property
    def names(self) -> list[str]:
        return list(self._served)

    def current(self, name: str, version: str | None = None) -> Served:
        """Return the open bundle of a name; Refusal with status 404 if there is none, or if it has another version."""
        found = self._served.get(name)
        if found is None:
            raise Refusal(404, f"there is no model {name!r}; there is {', '.join(self._served)}")
        if version not in (None, found.version):
            raise Refusal(404, f"the model {name!r} has the version {found.version!r}, and not {version!r}")
        return found

    def check_works(self, name: str, version: str | None = None) -> None:
        """Raise Refusal with status 503 if no backend of a model works any more, or as current() does."""
        if self.current(name, version).failed:
            raise Refusal(503, f"no backend of the model {name!r} works; the server's log says why")

    @contextmanager
    def using(self, name: str, version: str | None = None) -> Iterator[Served]:
        """Keep a bundle open while the block uses it, even if another takes its place; raises as current() does."""
        with self._lock:
            served = self.current(name, version)
            served.inside += 1
        try:
            yield served
        finally:
            with self._lock:
                served.inside -= 1
                last = served.retired and not served.inside
            if last:
                self._close(served)

    def replace(self, following: Served) -> None:
        """Let a bundle take the place of the one of the same name."""
        with self._lock:
            if self._closed:
                unused: Served | None = following
            else:
                before, self._served[following.name] = self._served[following.name], following
                before.retired = True
                unused = None if before.inside else before
        if unused is not None:
            self._close(unused)

    @staticmethod
    def _close(served: Served) -> None:
        # Closing may wait, and who leaves last may be the event loop.
        threading.Thread(target=served.classifier.close, name="closing", daemon=True).start()

    def close(self) -> None:
        """Close every bundle."""
        with self._lock:
            self._closed = True
        for served in self._served.values():
            served.classifier.close()


def named_paths(bundles: list[str]) -> dict[str, Path]:
    """Return the path of each bundle by its name: NAME=PATH, or a path whose folder gives the name.

    Raises OptionError if two have the same name, or if a name cannot be a part of an address.
    """
    found: dict[str, Path] = {}
    for text in bundles:
        name, equals, path = text.partition("=")
        if not equals or "/" in name or Path(text).exists():
            path, name = text, Path(text).absolute().name.removesuffix(".edge")
        if not name.strip() or not name.isprintable() or not path:
            raise OptionError(f"{text!r} gives no name; NAME=PATH was expected, such as pets=pets.edge")
        if name in found:
            raise OptionError(
                f"{found[name]} and {path} both have the name {name!r}; give one another name: OTHER={path}"
            )
        found[name] = Path(path)
    return found
