"""``report``: measures what this machine can do, part by part, and writes one file to send on.

Each part runs in a child process within a time limit.  One that fails, crashes or hangs is in the report with its reason, and
the others continue.
"""

import datetime
import json
import os
import platform
import time
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence, Union

from ... import __version__
from ...bundle.open_bundle import Bundle, Model, open_bundle
from ...classify.selection import pair_name
from ...device.machine import gpu_nodes
from ...errors import BackendError
from ...files.outputs import ANOTHER_OUTPUT, new_file
from ...files.schema import JsonObject
from ...runners import RUNNERS
from ...text.terminal import printable
from ..doctor.checks import ask
from . import nvidia
from .privacy import Privacy
from .progress import Progress

if TYPE_CHECKING:
    Section = JsonObject

FORMAT, VERSION = "edgeclf-board-report", 1
MOST_BYTES = 1 << 20
# Limits by part in seconds.  An emulated Cortex-A57 takes ten to import OpenCV, which the doctor does several times, and
# TensorRT builds a model's engine for minutes when it is first opened.
SHORT_S, LONG_S, BUILD_S = 60.0, 300.0, 900.0
_CODE = "from edgeclf_runtime.commands.report import parts\nreturn parts.{}(*{!a})"
_OUT_OF_TIME = "left out: the time of --minutes was over"


class BoardReport(NamedTuple):
    """A board's report.

    contents    as JSON; every section has "seconds", and "found" or "error", the other being None
    """

    contents: JsonObject

    @property
    def tested(self) -> "List[Section]":
        """The self-tests that ran."""
        return [test for test in self.contents["selftests"] if test["found"]]

    @property
    def passed(self) -> bool:
        """True if at least one self-test ran, and all that ran passed."""
        return bool(self.tested) and all(test["found"]["passed"] for test in self.tested)

    def to_dict(self) -> Dict[str, object]:
        """Return the contents of the file."""
        return self.contents

    def __str__(self) -> str:
        machine = self.contents["machine"]["found"] or {}
        lines = ["{}, {}".format(machine.get("board") or machine.get("machine"), machine.get("processor"))]
        lines += [_test_line(test) for test in self.contents["selftests"] if test["error"] != _missing(test["backend"])]
        for backend, section in self.contents["speed"].items():
            if section["error"]:
                lines.append("not measured: {}: {}".format(backend, section["error"]))
                continue
            for model, stages in section["found"]["latency_ms"].items():
                lines.append(
                    "{:<28} frame to label p50 {:.1f} ms, p99 {:.1f} ms".format(
                        "{} on {}".format(model, backend), stages["total"]["p50"], stages["total"]["p99"]
                    )
                )
        return "\n".join(printable(line, "\n  ") for line in lines)


def _missing(backend: str) -> str:
    return "{} is not installed".format(backend)


def _test_line(test: "Section") -> str:
    name = "{} on {}".format(test["model"], test["backend"])
    if test["error"]:
        return "not run: {}: {}".format(name, test["error"])
    found = test["found"]
    verdict = "pass" if found["passed"] else "FAIL"
    return "{}: {}: {} of {} golden labels agree".format(verdict, name, found["labels_agree"], found["images"])


def write_board_report(
    bundle: Union[str, "os.PathLike[str]"],
    output: Union[str, "os.PathLike[str]"],
    overwrite: bool = False,
    repeat: int = 100,
    minutes: float = 30,
    root: str = "/",
) -> BoardReport:
    """Examine this machine with a bundle, and write what was found as a JSON file, even if parts failed.

    repeat      number of frames to measure for each model on each backend
    minutes     no part begins later than this, and none runs on for long
    root        folder that has /proc, /sys, /etc and /dev

    The file has at most MOST_BYTES, and nothing that says whose machine it is.  Raises BundleError and OutputError.
    """
    opened = open_bundle(bundle)
    with new_file(output, overwrite, elsewhere=ANOTHER_OUTPUT) as work:
        with Progress() as progress:
            contents = _Examination(opened, repeat, minutes, root, progress).contents()
        versions = [section["found"] for section in contents["versions"].values() if section["found"]]
        report = BoardReport(_bounded(Privacy(versions, root).clean(contents)))
        with open(work, "w", encoding="utf-8") as stream:
            json.dump(report.contents, stream, indent=1)
            stream.write("\n")
    return report


class _Examination:
    """Runs the parts, one after another."""

    def __init__(self, bundle: Bundle, repeat: int, minutes: float, root: str, progress: Progress) -> None:
        self._bundle, self._repeat, self._root, self._progress = bundle, repeat, root, progress
        self._end = time.monotonic() + minutes * 60

    def contents(self) -> JsonObject:
        """Return everything that was found, with names and paths still in it."""
        start = time.monotonic()
        found: JsonObject = {
            "format": FORMAT,
            "version": VERSION,
            "runtime": __version__,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            "bundle": _facts(self._bundle),
        }
        found["machine"] = self._part("the machine", SHORT_S, "machine", self._root)
        found["versions"] = {
            name: self._part("version of " + name, SHORT_S, "version", name) for name in sorted(RUNNERS)
        }
        found["doctor"] = self._part("doctor", LONG_S, "findings", self._root)
        found["gpu"] = self._gpu()
        found["cuda_memory"] = self._cuda_memory()
        models = self._bundle.in_order(platform.machine())
        pairs = [(model, backend) for model in models for backend in model.backends]
        found["selftests"] = [self._selftest(found["versions"], model, backend) for model, backend in pairs]
        found["speed"] = self._speeds(found["selftests"])
        found["machine_after"] = self._part("the machine", SHORT_S, "machine", self._root)
        found["seconds"] = round(time.monotonic() - start, 1)
        return found

    def _part(self, title: str, limit_s: float, function: str, *arguments: object) -> "Section":
        start = time.monotonic()
        left_s = self._end - start
        if left_s <= 0:
            return {"seconds": 0.0, "found": None, "error": _OUT_OF_TIME}
        self._progress.show(title)
        answer = ask(_CODE.format(function, arguments), min(limit_s, left_s))
        error = answer.failure or None
        if answer.signal:
            error = "its process died of a signal: " + answer.failure
        return {"seconds": round(time.monotonic() - start, 1), "found": answer.found, "error": error}

    def _selftest(self, versions: JsonObject, model: Model, backend: str) -> "Section":
        names = {"model": model.name, "backend": backend}
        version = versions[backend]
        if not version["found"]:
            error = version["error"] or _missing(backend)
            return dict(names, seconds=0.0, found=None, error=error)
        limit_s = BUILD_S if backend.startswith("tensorrt") else LONG_S
        title = "golden images of " + pair_name(model, backend)
        return dict(names, **self._part(title, limit_s, "golden", self._bundle.path, model.name, backend))

    def _speeds(self, tests: "Sequence[Section]") -> "Dict[str, Section]":
        """Measure the models that passed their golden images, by backend."""
        passed: Dict[str, List[str]] = {}
        for test in tests:
            if test["found"] and test["found"]["passed"]:
                passed.setdefault(test["backend"], []).append(test["model"])
        found = {}
        for backend, models in sorted(passed.items()):
            arguments = (self._bundle.path, backend, models, self._repeat, self._root)
            with nvidia.Watch(nvidia.program()) as watch:
                section = self._part("latency on " + backend, BUILD_S, "speed", *arguments)
            found[backend] = dict(section, gpu=watch.found)
        return found

    def _gpu(self) -> "Optional[Section]":
        """Return what nvidia-smi reports at rest; None without it."""
        program, start = nvidia.program(), time.monotonic()
        if program is None:
            return None
        found, error = None, None
        try:
            found = nvidia.reading(program)
        except BackendError as failure:
            error = str(failure)
        return {"seconds": round(time.monotonic() - start, 1), "found": found, "error": error}

    def _cuda_memory(self) -> "Dict[str, Section]":
        """Copy to the GPU and back by each library; nothing without a GPU."""
        if not gpu_nodes(self._root):
            return {}
        return {
            kind: self._part("memory of the GPU by " + kind, SHORT_S, "cuda_memory", kind)
            for kind in ("libcudart", "pycuda")
        }


def _facts(bundle: Bundle) -> JsonObject:
    """Return what a bundle is, without the names that its maker gave."""
    training = bundle.provenance.get("training")
    network = training.get("backbone") if isinstance(training, dict) else None
    spec = bundle.preprocessing
    return {
        "id": bundle.id[:12],
        "network": network if isinstance(network, str) else None,
        "size": [spec.width, spec.height],
        "labels": len(bundle.labels),
        "models": {model.name: model.precision for model in bundle.models},
    }


def _bounded(contents: JsonObject) -> JsonObject:
    """Return a report of at most MOST_BYTES: the largest findings are left out of one that is larger."""
    while True:
        size = len(json.dumps(contents, indent=1))
        if size <= MOST_BYTES:
            return contents
        part = max(_sections(contents), key=lambda section: len(json.dumps(section["found"])))
        part["error"] = "left out: its {} KB are too many for the file".format(len(json.dumps(part["found"])) >> 10)
        part["found"] = None


def _sections(contents: object) -> "List[Section]":
    if isinstance(contents, dict):
        own = [contents] if "found" in contents and "error" in contents else []
        return own or [section for value in contents.values() for section in _sections(value)]
    if isinstance(contents, list):
        return [section for value in contents for section in _sections(value)]
    return []
