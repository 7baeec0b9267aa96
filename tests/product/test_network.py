"""The host's functions and commands look up nothing, send nothing, and write nothing that nobody asked for."""

import json
import os
import shutil
import sys
from pathlib import Path

import onnx
import pytest

import edgeclf
from tests.support.browsers import FLAGS
from tests.support.netns import OWN, assert_quiet, observe
from tests.support.tensorrt_rig import BUILDS, rig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# The list of this machine's fonts, which is matplotlib's own cache.
ALLOWED = (*OWN, "home/.cache/matplotlib/")
EVERYTHING = """
import sys
import edgeclf

data, images = sys.argv[1], sys.argv[2:]
options = edgeclf.TrainOptions(image_size=32, epochs=1)
edgeclf.check(data)
edgeclf.train(data, "run", options)
edgeclf.export("run")
edgeclf.evaluate("run", data)
edgeclf.robustness("run", data, images=8)
edgeclf.calibrate(data, "set", edgeclf.CalibrateOptions(size=24))
edgeclf.bundle("run", "it.edge")
edgeclf.compare("run", "it.edge", data)
edgeclf.predict("it.edge", images)
edgeclf.train(data, "full", edgeclf.TrainOptions(image_size=32, epochs=1, finetune="full"))
from huggingface_hub import constants  # timm has loaded it

assert constants.HF_HUB_DISABLE_TELEMETRY
for refused in (
    lambda: edgeclf.train(data, "hub", edgeclf.TrainOptions(backbone="resnet18", weights="imagenet")),
    lambda: edgeclf.train(data, "hub", edgeclf.TrainOptions(backbone="hf-hub:timm/resnet18.a1_in1k", weights="none")),
    lambda: edgeclf.load_dataset("cifar10"),
    lambda: edgeclf.build("it.edge"),
):
    try:
        refused()
    except edgeclf.EdgeclfError as error:
        print(error)
"""
# One process for all command lines: each would import torch and timm for seconds.
CLI = """
import json, sys
from edgeclf import cli

for words in json.loads(sys.argv[1]):
    try:
        cli.app(words)
    except SystemExit as stop:
        # Without TensorRT there is nothing to build.
        assert stop.code in ((0, 1) if words[0] == "build" else (0,)), words
"""
ENGINE = """
import sys
from tests.support.engine_requests import Told, request
from edgeclf_runtime.trt.parent import build_engine

assert build_engine(request(sys.argv[1], "plan"), Told())["bytes"]
"""


def observe_host(command, folder, *paths, **options):
    """Observe a Python command line that finds the host's packages where this process does, after those of ``paths``."""
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([*paths, *filter(None, sys.path)])}
    return observe([sys.executable, *command], folder, environment, **options)


@pytest.mark.slow
def test_every_function_works_without_a_network_and_sends_nothing(digits, tmp_path):
    seen = observe_host(["-c", EVERYTHING, digits, digits / "3" / "000.png"], tmp_path)
    assert_quiet(seen, allowed=ALLOWED)
    refusals = seen.out.splitlines()
    assert "the ImageNet weights of resnet18 were not found" in refusals[0]
    assert "the ImageNet weights of hf-hub:timm/resnet18.a1_in1k were not found" in refusals[1]
    assert "CIFAR-10 is not on this machine" in refusals[2]


def test_building_an_engine_sends_nothing(relu, tmp_path):
    assert_quiet(observe_host(["-c", ENGINE, relu], tmp_path, rig(BUILDS)), allowed=ALLOWED)


SERVE = """
import sys, urllib.request
from edgeclf.deployment.serving.serve import listening
from edgeclf.options import ServeOptions

with listening(sys.argv[1], ServeOptions(port=0)) as server:
    for path, data in (("/", None), ("/v2/models/digits", None), ("/classify", open(sys.argv[2], "rb").read())):
        assert urllib.request.urlopen(server.address + path, data).status == 200
"""


@pytest.mark.slow
def test_a_server_sends_nothing_but_its_answers(digits, bundle, tmp_path):
    assert_quiet(observe_host(["-c", SERVE, bundle, digits / "3" / "000.png"], tmp_path), allowed=ALLOWED)


@pytest.mark.slow
def test_every_command_sends_nothing(digits, run, own_run, bundle, tmp_path):
    commands = {
        "help": ["--help"],
        "check": ["check", digits],
        "augment": ["augment", digits, "--output", "page.png"],
        "train": ["train", digits, "--output", "made", "--image-size", "32", "--epochs", "1", "--finetune", "full"],
        "evaluate": ["evaluate", run, digits],
        "robustness": ["robustness", run, digits, "--images", "8", "--adversarial", "--steps", "1"],
        "compare": ["compare", run, bundle, digits],
        "predict": ["predict", bundle, digits / "3" / "000.png"],
        "export": ["export", run, "--output", "it.onnx"],
        "calibrate": ["calibrate", digits, "--output", "set", "--size", "24"],
        "quantize": ["quantize", own_run, "--flavor", "int8-cpu", "--size", "24", "--max-drop", "1"],
        "bundle": ["bundle", run, "--output", "it.edge"],
        "build": ["build", bundle],
    }
    assert set(edgeclf.__all__) >= set(commands) - {"help"}
    words = [[*map(str, command)] for command in commands.values()]
    assert_quiet(observe_host(["-c", CLI, json.dumps(words)], tmp_path), allowed=ALLOWED)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed (sudo apt-get install chromium)")
def test_the_browser_that_tests_use_looks_up_nothing(tmp_path):
    # It never ends by itself, and looked up its maker's hosts in the first seconds.
    command = ["timeout", "20", "chromium", *FLAGS, f"--user-data-dir={tmp_path}/profile", "--remote-debugging-port=0"]
    seen = observe([*command, "about:blank"], tmp_path)
    assert (seen.names, seen.packets) == ([], [])


@pytest.mark.slow
def test_every_benchmark_can_be_imported_without_a_report(tmp_path):
    folders = [BENCHMARKS / name for name in ("accuracy", "data", "figures", "speed", "streams")]
    names = sorted(path.stem for folder in folders for path in folder.glob("*.py"))
    code = f"import sys; sys.path[:0] = {[str(folder) for folder in folders]!r}; import {', '.join(names)}"
    assert_quiet(observe_host(["-c", code], tmp_path), allowed=ALLOWED)


def test_benchmarks_open_openvino_without_its_reports(tmp_path):
    pytest.importorskip("openvino_telemetry", reason="openvino is not installed")
    image, logits = (onnx.helper.make_tensor_value_info(name, 1, ["N", 4, 4, 3]) for name in ("image", "logits"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["image"], ["logits"])], "graph", [image], [logits])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]), tmp_path / "it.onnx")
    (tmp_path / "network.json").write_text('{"height": 4, "width": 4}')
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS / 'speed')!r}); import contenders, pathlib; "
    code += f"contenders._openvino('it.onnx', pathlib.Path({str(tmp_path)!r}), 1, 1)"
    assert_quiet(observe_host(["-c", code], tmp_path), allowed=ALLOWED)
