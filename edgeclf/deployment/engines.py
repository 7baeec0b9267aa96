"""Builds a bundle's TensorRT engines for this machine's GPU, with the same code as on a device.

An engine belongs to one TensorRT version and one GPU, so an engine for another machine is built there.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator
from pathlib import Path

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.commands import build as device_build
from edgeclf_runtime.device.machine import is_jetson
from edgeclf_runtime.files.schema import JsonObject

from ..display.report import Bars, Report
from ..errors import BackendError
from ..options import BuildOptions, merged
from ..targets import TARGETS


class BuildReport(Report, device_build.BuildReport):
    """The result of a build; see ``edgeclf_runtime.commands.build.BuildReport``."""

    def bars(self) -> Iterator[Bars]:
        """Yield each engine's size and how long its build took."""
        names = [f"{engine.model} ({engine.precision})" for engine in self.engines]
        sizes = [engine.facts["bytes"] / 1e6 for engine in self.engines]
        yield Bars("size, MB", dict(zip(names, sizes, strict=True)), "{:.1f}")
        seconds = [engine.seconds for engine in self.engines]
        yield Bars("build, seconds", dict(zip(names, seconds, strict=True)), "{:.0f}")

    def to_dict(self) -> JsonObject:
        """The report as a JSON-compatible dict."""
        return device_build.BuildReport.to_dict(self)


def build(bundle: str | Path, options: BuildOptions | None = None, **keywords: object) -> BuildReport:
    """Build a bundle's engines for this machine's GPU, and check each on the golden images.

    Raises BackendError if TensorRT, the driver or the GPU is missing, and for a target that is another machine, with the two
    commands that build the engine there.
    """
    options = merged(BuildOptions, options, keywords)
    if options.target is not None and not _is_here(options.target):
        raise BackendError(_elsewhere(open_bundle(bundle).path, options.target))
    return BuildReport(*device_build.build(bundle, options.model, options.precision, options.engine))


def _is_here(target: str) -> bool:
    return platform.machine() in TARGETS[target].machines and target.startswith("jetson") == is_jetson()


def _elsewhere(path: str, target: str) -> str:
    if not any("tensorrt" in name or name == "fp16" for name in TARGETS[target].models):
        return f"{target} has no NVIDIA GPU and needs no engine: copy the bundle, which runs there without a build"
    there = shlex.join(("python3", Path(path).name, "build"))
    return (
        f"an engine for {target} cannot be built on this {platform.machine()} machine, because it belongs to one TensorRT "
        "version and one GPU; build it on the device:\n"
        f"  scp -r {shlex.quote(path)} DEVICE:\n"
        f"  ssh DEVICE {shlex.quote(there)}"
    )
