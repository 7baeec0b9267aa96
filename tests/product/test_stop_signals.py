"""Ending while native code hangs: a real model whose loop never ends once it sees a white pixel."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.golden import golden_images
from edgeclf_runtime.images.preprocess import as_batch, preprocess
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner
from tests.support.sealing import replace_file, reseal, without_features
from tests.support.starting import start


def endless(labels):
    """An ONNX file: the mean of the image as every label's logit, after 2**62 steps of a loop if a pixel is 255."""
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["max"], keepdims=0),
        helper.make_node("Div", ["max", "white"], ["share"]),
        helper.make_node("Cast", ["share"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "many"], ["steps"]),
        helper.make_node("Loop", ["steps", "yes", "zero"], ["nothing"], body=body()),
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Add", ["column", "nothing"], ["same"]),
        helper.make_node("Mul", ["same", "weights"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("many", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("weights", TensorProto.FLOAT, [1, labels], np.linspace(0.001, 0.01, labels)),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 64, 64, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", labels])
    graph = helper.make_graph(nodes, "endless", [image], [logits], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7).SerializeToString()


def body():
    nodes = [
        helper.make_node("Identity", ["go on"], ["still"]),
        helper.make_node("Mul", ["carried", "carried"], ["carried on"]),
    ]
    inputs = [("step", TensorProto.INT64), ("go on", TensorProto.BOOL), ("carried", TensorProto.FLOAT)]
    outputs = [("still", TensorProto.BOOL), ("carried on", TensorProto.FLOAT)]
    values = [[helper.make_tensor_value_info(name, kind, []) for name, kind in ends] for ends in (inputs, outputs)]
    return helper.make_graph(nodes, "body", *values)


@pytest.fixture(scope="module")
def hanging(bundle, tmp_path_factory):
    """A bundle whose only model hangs on an image with a white pixel; its golden images have none."""
    path = tmp_path_factory.mktemp("hanging") / "hanging.edge"
    shutil.copytree(bundle, path)
    opened = open_bundle(path)
    model = endless(len(opened.labels))
    assert onnx.load_from_string(model)
    (path / "model.fp32.onnx").write_bytes(model)
    images = golden_images(opened)
    assert max(image.max() for image in images) < 255
    with OnnxRuntimeRunner(path / "model.fp32.onnx") as runner:
        rows = [runner.infer(as_batch([preprocess(image, opened.preprocessing)]))[0].tolist() for image in images]
    golden = json.loads((path / "golden" / "expected.json").read_text())
    golden["logits"] = dict.fromkeys(golden["logits"], rows)
    replace_file(path, "model.fp32.onnx", model)
    replace_file(path, "golden/expected.json", json.dumps(golden).encode())

    def only_fp32(manifest):
        without_features(manifest)
        manifest["order"] = {"default": ["fp32"]}
        next(entry for entry in manifest["models"] if entry["name"] == "fp32")["backends"] = ["onnxruntime"]

    reseal(path, only_fp32)
    return path


@pytest.fixture
def white(tmp_path):
    """A folder of white pictures."""
    folder = tmp_path / "white"
    folder.mkdir()
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 64, 3), 255, np.uint8))
    return folder


def wait_until_it_computes(process):
    """Return when the process has used a second of processor time more: by then it hangs."""

    def used():
        with open(f"/proc/{process.pid}/stat") as stream:
            return sum(map(int, stream.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    deadline = time.monotonic() + 60
    while used() < 3 and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("source", ["image", "folder", "camera"])
def test_a_signal_ends_a_program_whose_inference_hangs(hanging, white, number, code, source):
    arguments = {
        "image": ["classify", white / "0.png"],
        "folder": ["run", "--source", white, "--threads", "2"],
        "camera": ["run", "--source", "test://", "--width", "64", "--height", "64"],
    }[source]
    process = start(hanging, *arguments)
    wait_until_it_computes(process)
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == code, error.decode()


GOLDEN = """
import sys
from edgeclf_runtime.classify import golden
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.classify.selection import open_proven
from edgeclf_runtime.device.stop_signals import leave
import cv2, numpy

golden.golden_images = lambda bundle: [numpy.full((64, 64, 3), 255, numpy.uint8)]
bundle = open_bundle(sys.argv[1])
check = golden.check_golden
sys.modules["edgeclf_runtime.classify.selection"].check_golden = lambda *arguments: check(*arguments, timeout_s=0.5)
try:
    open_proven(bundle, bundle.model("fp32"), "onnxruntime")
except BackendError as error:
    print(error)
leave(7)
"""


def test_golden_images_that_hang_are_an_error_and_do_not_keep_the_program(hanging):
    done = subprocess.run([sys.executable, "-c", GOLDEN, hanging], capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr
    assert "fp32 on onnxruntime did not answer within 0.5 s" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_a_training_and_its_workers_is_one_sentence_about_how_to_go_on(digits, tmp_path, number, code):
    options = ["--finetune", "full", "--backbone", "mobilenetv3_small_050", "--weights", "none", "--image-size", "64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeclf", "train", digits, "--output", tmp_path / "run", *options, "--epochs", "9999"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    lines = iter(process.stderr.readline, "")
    next(line for line in lines if line.startswith("epoch 1"))  # after the checkpoint of epoch 0
    os.killpg(process.pid, number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert [line for line in error.splitlines() if not line.startswith(("epoch ", "training "))] == [
        f"{tmp_path / 'run'}.unfinished keeps what is done; the same command with --resume continues it",
        "interrupted; nothing half-written was left behind",
    ]


@pytest.mark.parametrize("started", ["edgeclf_runtime.bundle_entry", "edgeclf.cli"])
def test_sigterm_ends_a_containers_first_process_while_it_imports(started):
    code = f"import {started}, os; os.kill(1, 15); print('still there')"
    spaces = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child"]
    if subprocess.call([*spaces, "true"], stderr=subprocess.DEVNULL) != 0:
        pytest.skip("a process namespace needs root")
    ended = subprocess.run([*spaces, sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (143, ""), ended.stderr
