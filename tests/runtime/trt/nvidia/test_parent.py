"""The building process: engines built for real by TensorRT 11.4's bindings, see ``tensorrt_rig.py``, and builds that end badly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclf_runtime.device import child_process
from edgeclf_runtime.device.child_process import runtime_command
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.trt import parent as engine_process
from edgeclf_runtime.trt.parent import Progress, build_engine
from tests.support.engine_requests import Told, request


@pytest.fixture
def model(bundle):
    """The FP32 file of the bundle."""
    return str(bundle / "model.fp32.onnx")


@pytest.mark.slow
def test_an_fp32_file_becomes_an_engine_for_batches_of_every_size(tensorrt, model, tmp_path):
    facts = build_engine(request(model, tmp_path / "plan"), Told())
    assert facts["bytes"] == (tmp_path / "plan").stat().st_size > 1 << 20
    assert facts["network_layers"] > 100


@pytest.mark.slow
def test_progress_shows_tensorrts_own_phases(tensorrt, model, tmp_path):
    told: list[dict] = []
    build_engine(request(model, tmp_path / "plan"), Told(told.append))
    assert next(filter(None, told)) == {"phase": "Building engine", "step": 0, "steps": 6}


def test_an_unsupported_operator_is_named_with_its_node_and_every_error_is_shown(tensorrt, small, tmp_path):
    nodes = [
        helper.make_node("StringNormalizer", ["image"], ["x"], name="odd"),
        helper.make_node("Foo", ["x"], ["logits"], name="odder"),
    ]
    with pytest.raises(BackendError) as refused:
        build_engine(request(small(nodes), tmp_path / "plan"), Told())
    assert "In node 0 with name: odd and operator: StringNormalizer" in str(refused.value)
    assert "In node 1 with name: odder and operator: Foo" in str(refused.value)


def test_an_int32_bias_is_refused_in_tensorrts_words(tensorrt, small, tmp_path):
    nodes = [
        helper.make_node("DequantizeLinear", ["b", "s"], ["bias"]),
        helper.make_node("Add", ["image", "bias"], ["logits"]),
    ]
    bias = numpy_helper.from_array(np.zeros(4, np.int32), "b")
    scale = numpy_helper.from_array(np.float32(0.1), "s")
    with pytest.raises(
        BackendError, match=r"TensorRT 11.4.0.106 refuses .*\n(.*\n)* .*input has type Int32 but must have type"
    ):
        build_engine(request(small(nodes, bias, scale), tmp_path / "plan"), Told())


def test_a_wrong_profile_is_refused_in_tensorrts_words(tensorrt, relu, tmp_path):
    with pytest.raises(BackendError, match=r"refuses batches of \[1, 1, 0\].*MIN<=OPT<=MAX"):
        build_engine(request(relu, tmp_path / "plan", max_batch=0), Told())


def test_a_profile_outside_the_models_shapes_is_refused_in_tensorrts_words(tensorrt, tmp_path):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["logits"])], "graph", [image], [logits])
    path = tmp_path / "model.fp32.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
    with pytest.raises(BackendError, match=r"TensorRT 11.4.0.106 refuses (.*\n)*.*[Ss]tatic.*"):
        build_engine(request(path, tmp_path / "plan"), Told())


def test_a_file_that_is_not_onnx_is_refused(tensorrt, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BackendError, match=r"Failed to parse the ONNX model"):
        build_engine(request(tmp_path / "model.onnx", tmp_path / "plan"), Told())


def test_a_full_disk_is_a_clear_error(tensorrt, relu):
    with pytest.raises(BackendError, match=r"/dev/full cannot be written.*No space left on device.*free some space"):
        build_engine(request(relu, "/dev/full"), Told())


def test_the_timing_cache_is_written_and_read_and_a_damaged_one_is_ignored(tensorrt, relu, tmp_path):
    timing = tmp_path / "timing"
    for before in (None, None, b"no timings"):
        if before:
            timing.write_bytes(before)
        build_engine(request(relu, tmp_path / "plan", timing=str(timing)), Told())
        assert len(timing.read_bytes()) > 100


def test_a_build_that_is_killed_is_an_error_with_the_remedy(tensorrt, model, tmp_path):
    def kill(message):
        for child in children():  # none yet, perhaps, on a busy machine
            os.kill(child, signal.SIGKILL)

    with pytest.raises(BackendError, match=r"was killed, most likely because memory ran out.*256 MB with --workspace"):
        build_engine(request(model, tmp_path / "plan"), Told(kill))


def children():
    """The processes that build for this one."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rsplit(")", 1)[1].split()[1]
            if int(parent) == os.getpid() and b"trt.child" in (path.parent / "cmdline").read_bytes():
                yield int(path.parent.name)
        except OSError:
            continue


def test_the_building_process_ends_with_its_parent(tmp_path, monkeypatch):
    # A library that takes for ever to load keeps the build waiting.
    (tmp_path / "tensorrt.py").write_text("import time\ntime.sleep(600)")
    ours, theirs = os.pipe()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = subprocess.Popen(
        runtime_command("trt.child", theirs),
        stdin=subprocess.PIPE,
        pass_fds=(theirs,),
    )
    os.close(theirs)
    child.stdin.write(request(tmp_path / "model.fp32.onnx", tmp_path / "plan").to_json().encode() + b"\n")
    child.stdin.close()
    assert child.wait(30) == 1
    assert os.read(ours, 100) == b""
    os.close(ours)


def test_progress_is_a_line_that_changes_on_a_terminal_and_lines_elsewhere(monkeypatch, capsys):
    monkeypatch.setattr(engine_process, "_REPORT_EVERY_S", 0)
    progress = Progress("model.fp32.onnx")
    progress({"phase": "Timing graph nodes", "step": 3, "steps": 12})
    progress(None)
    progress.close()
    line = "engine of model.fp32.onnx, 0 s: Timing graph nodes 3 of 12"
    assert capsys.readouterr().err == f"{line}\n{line}\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress(None)
    progress.close()
    assert capsys.readouterr().err == f"\r\x1b[K{line}\r\x1b[K"


def test_without_phases_progress_shows_the_duration_of_an_earlier_build(monkeypatch, capsys):
    monkeypatch.setattr(engine_process, "_REPORT_EVERY_S", 0)
    Progress("model.fp32.onnx", 212.4)(None)
    assert capsys.readouterr().err == "engine of model.fp32.onnx, 0 of about 212 s\n"


def test_when_tensorrt_aborts_only_the_building_process_ends(monkeypatch, relu, tmp_path):
    monkeypatch.setattr(child_process, "_START", "import os; os.abort()")
    with pytest.raises(BackendError, match=r"TensorRT ended the building process of model.fp32.onnx by signal 6"):
        build_engine(request(relu, tmp_path / "plan"), Told())


@pytest.mark.parametrize(
    "said",
    ["'no message\\n'", "'[1]\\n'", "'[' * 100000 + '\\n'", "'x' * 3000000"],
    ids=["text", "list", "deep", "endless"],
)
def test_a_building_process_that_sends_nonsense_is_an_error_and_is_ended(monkeypatch, relu, tmp_path, said):
    start = f"import os, sys, time; os.fdopen(int(sys.argv[8]), 'w').write({said}); time.sleep(600)"
    monkeypatch.setattr(child_process, "_START", start)
    with pytest.raises(BackendError, match="sent something that is not a message"):
        build_engine(request(relu, tmp_path / "plan"), Told())
    assert list(children()) == []
