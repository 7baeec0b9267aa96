"""The table of TensorRT's names, compared with NVIDIA's real bindings; see ``tensorrt_rig.py``."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeclf_runtime.trt import versions
from tests.support.tensorrt_rig import VERSIONS, rig

# Names that are used of other things too: of our own classes, arrays, lists, strings, threads.
NOT_THEIRS = {
    "__version__",
    "allocate",
    "append",
    "count",
    "enqueue",
    "flags",
    "format",
    "get",
    "log",
    "pop",
    "precision",
    "read",
    "shape",
    "start",
    "write",
}
FILES = (
    "calibrator.py",
    "child.py",
    "inspector.py",
    "libraries.py",
    "network.py",
    "runner.py",
)
NAMES = """
import json, tensorrt
classes = {name: dir(value) for name, value in vars(tensorrt).items() if isinstance(value, type)}
functions = [name for name, value in vars(tensorrt).items() if not isinstance(value, type)]
print(json.dumps([classes, functions]))
"""


@pytest.fixture(scope="module", params=VERSIONS)
def real(request):
    """A version as a tuple, and every name of its real bindings: those of classes, and functions."""
    environment = {**os.environ, "PYTHONPATH": rig(request.param)}
    out = subprocess.run([sys.executable, "-c", NAMES], env=environment, check=True, capture_output=True, text=True)
    return (tuple(map(int, request.param.split("."))), *json.loads(out.stdout))


def test_every_name_that_is_used_on_a_versions_path_is_there(real):
    version, classes, functions = real
    taken = [feature for name, feature in versions.FEATURES.items() if versions.has(version, name)]
    missing = [
        name
        for feature in taken
        for name in feature.names
        if (name.split(".")[1] not in classes.get(name.split(".")[0], ()) if "." in name else name not in functions)
    ]
    assert len(taken) > 3
    assert missing == []


def test_what_only_older_versions_use_is_still_in_8_6(real):
    version, classes, _ = real
    older = [n for f in versions.FEATURES.values() if f.until <= (8, 6) for n in f.names]
    there = [name for name in older if name.split(".")[1] in classes[name.split(".")[0]]]
    assert there == (older if version < (9,) else [])


def test_the_table_lists_every_name_of_tensorrts_that_the_code_uses(real):
    _, classes, functions = real
    known = {name.split(".")[-1] for feature in versions.FEATURES.values() for name in feature.names}
    known |= {name.split(".")[0] for feature in versions.FEATURES.values() for name in feature.names}
    theirs = {name for names in classes.values() for name in names if not name.startswith("_")} | {*classes, *functions}
    package = Path(versions.__file__).parent
    for file in FILES:
        used = {
            node.attr for node in ast.walk(ast.parse((package / file).read_text())) if isinstance(node, ast.Attribute)
        }
        assert (used & theirs) - known <= NOT_THEIRS


DERIVED = """
import sys, tensorrt
from edgeclf_runtime.trt import calibrator, child as engine_main, network as engine_network, versions as engine_api
version = engine_api.version_of(tensorrt)
logger = engine_network.make_logger(tensorrt)
logger.log(tensorrt.ILogger.ERROR, "no")
logger.log(tensorrt.ILogger.WARNING, "well")
assert logger.errors == ["no"]
if engine_api.has(version, "calibrator"):
    made = calibrator.make_calibrator(tensorrt, version, sys.argv[1], ())
    assert isinstance(made, tensorrt.IInt8EntropyCalibrator2)
    print(made.get_batch_size(), made.read_calibration_cache().decode().splitlines()[0], made.get_batch(["image"]))
if engine_api.has(version, "progress"):
    monitor = engine_main._make_monitor(tensorrt, lambda message: print(message["phase"]))
    monitor.phase_start("Timing", None, 3)
    assert monitor.step_complete("Timing", 1)
"""


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("8.6.1", "1 TRT-8601-EntropyCalibration2 None\n"),
        ("10.16.1.11", "1 TRT-101601-EntropyCalibration2 None\nTiming\n"),
        ("11.4.0.106", "Timing\n"),
    ],
)
def test_classes_derived_from_tensorrts_real_ones_work(bundle, version, said):
    home = str(Path(versions.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((rig(version), home))}
    command = [sys.executable, "-c", DERIVED, bundle / "calibration.cache"]
    assert subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout == said


TACTICS = """
import sys, tensorrt
from edgeclf_runtime.trt.versions import version_of
from edgeclf_runtime.trt.libraries import leave_out, used_by
version = version_of(tensorrt)

class Config:
    def __init__(self, sources):
        self.sources = sources
    def get_tactic_sources(self):
        return self.sources
    def set_tactic_sources(self, sources):
        self.sources = sources
        return True

every = sum(1 << int(source) for source in tensorrt.TacticSource.__members__.values())
config = Config(every)
print(used_by(tensorrt, version, config), end=" ")
before = leave_out(tensorrt, version, config)
left = [name for name, source in tensorrt.TacticSource.__members__.items() if config.sources >> int(source) & 1]
print(before in (every, None), left, used_by(tensorrt, version, config))
"""


@pytest.mark.parametrize(
    ("version", "used"),
    [
        ("8.6.1", ["CUBLAS", "CUBLAS_LT", "CUDNN"]),
        ("10.16.1.11", ["CUBLAS", "CUBLAS_LT", "CUDNN"]),
        # Its TacticSource begins with EDGE_MASK_CONVOLUTIONS: the number that was CUBLAS's.
        ("11.4.0.106", []),
    ],
)
def test_only_cublas_and_cudnn_are_removed_from_the_real_sources_of_tactics(version, used):
    home = str(Path(versions.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((rig(version), home))}
    done = subprocess.run([sys.executable, "-c", TACTICS], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == f"{used} True ['EDGE_MASK_CONVOLUTIONS', 'JIT_CONVOLUTIONS'] []\n"
