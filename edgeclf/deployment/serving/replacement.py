"""Opens bundles that were replaced on disk, beside those that serve; a broken one is refused, and the old one stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeclf_runtime.bundle.open_bundle import MANIFEST_HASH
from edgeclf_runtime.files.read import read_bytes

from ...display.progress import say
from ...errors import EdgeclfError
from .metrics import Metrics
from .models import Models, Served

LOOK_EVERY_S = 1.0
_RETRY_S, _LONGEST_RETRY_S = 2.0, 60.0
_MOST_BYTES = 1024


@dataclass
class _Refused:
    """A bundle that could not be opened; it may be one that is still being copied."""

    version: str
    reason: str
    wait_s: float
    again_at: float


class Replacement:
    """Looks for replaced bundles every second, in its own thread, from start() to close().

    paths: of the bundles, by name.  open: opens one beside the others.
    """

    def __init__(
        self, models: Models, paths: Mapping[str, Path], open: Callable[[str, Path], Served], metrics: Metrics
    ) -> None:
        self._models, self._paths, self._open, self._metrics = models, paths, open, metrics
        self._refused: dict[str, _Refused] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="replacement", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; a bundle that is being opened closes by itself."""
        self._end.set()

    def _watch(self) -> None:
        while not self._end.wait(LOOK_EVERY_S):
            for name, path in self._paths.items():
                version = version_on_disk(path)
                if version and version != self._models.current(name).version:
                    self._try(name, path, version)

    def _try(self, name: str, path: Path, version: str) -> None:
        before = self._refused.get(name)
        if before and before.version == version and time.monotonic() < before.again_at:
            return
        old = self._models.current(name).version
        try:
            served = self._open(name, path)
        except (EdgeclfError, OSError) as error:
            self._refuse(name, version, str(error), old)
            return
        self._refused.pop(name, None)
        self._models.replace(served)
        self._metrics.swap(name, "opened")
        say(f"{name}: version {served.version} has replaced {old}")

    def _refuse(self, name: str, version: str, reason: str, old: str) -> None:
        before = self._refused.get(name)
        wait_s = min(2 * before.wait_s, _LONGEST_RETRY_S) if before and before.version == version else _RETRY_S
        self._refused[name] = _Refused(version, reason, wait_s, time.monotonic() + wait_s)
        if before is None or (before.version, before.reason) != (version, reason):
            self._metrics.swap(name, "refused")
            say(f"warning: {name}: version {version} is not used, and {old} stays: {reason}")


def version_on_disk(path: Path) -> str:
    """Return the version of the bundle at a path as its files say it; "" if there is none."""
    try:
        return read_bytes(path / MANIFEST_HASH, _MOST_BYTES, follow=False)[:12].decode("ascii")
    except (OSError, ValueError):
        return ""
