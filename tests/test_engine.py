"""Engines, built for real by TensorRT 11.4's bindings where there is no GPU; see ``tensorrt_rig.py``."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tensorrt_rig import BUILDS, VERSIONS, rig

from edgeclf_runtime import engine, engine_api, engine_process, processes
from edgeclf_runtime.bundle import open_bundle
from edgeclf_runtime.cuda import Device
from edgeclf_runtime.engine import choose, ensure_engine, workspace_for
from edgeclf_runtime.engine_main import Request
from edgeclf_runtime.engine_process import Progress, build_engine
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.processes import runtime_command

NANO = Device("NVIDIA Tegra X1", (5, 3), 4 << 30, 2 << 30, True)
TX2 = Device("NVIDIA Tegra X2", (6, 2), 8 << 30, 5 << 30, True)
ORIN = Device("Orin", (8, 7), 64 << 30, 40 << 30, True)
# Names that are used of other things too: of our own classes, arrays, lists, strings, threads.
NOT_THEIRS = {
    "__version__",
    "allocate",
    "append",
    "enqueue",
    "flags",
    "format",
    "get",
    "log",
    "pop",
    "read",
    "shape",
    "start",
    "write",
}
NAMES = """
import json, tensorrt
classes = {name: dir(value) for name, value in vars(tensorrt).items() if isinstance(value, type)}
functions = [name for name, value in vars(tensorrt).items() if not isinstance(value, type)]
print(json.dumps([classes, functions]))
"""


@pytest.fixture
def tensorrt(monkeypatch, tmp_path):
    """TensorRT 11.4 for the building processes; this one knows its version alone, since no other can follow in it."""
    monkeypatch.setenv("PYTHONPATH", rig(BUILDS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engine, "load_tensorrt", lambda: SimpleNamespace(__version__=BUILDS))


@pytest.fixture
def model(bundle):
    """The FP32 file of the bundle."""
    return str(bundle / "model.fp32.onnx")


@pytest.fixture
def small(tmp_path):
    """Write a small model.fp32.onnx: small(nodes, *initializers) gives its path."""

    def write(nodes, *initializers, name="model.fp32.onnx"):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "graph", [image], [logits], list(initializers))
        path = tmp_path / name
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), str(path))
        return str(path)

    return write


@pytest.fixture
def relu(small):
    return small([helper.make_node("Relu", ["image"], ["logits"])])


def request(source, plan, **other):
    facts = {
        "flags": (),
        "exact": True,
        "batches": (1, 1, 8),
        "workspace_bytes": 256 << 20,
        "optimization_level": 3,
        "timing": None,
    }
    return Request(str(source), str(plan), **{**facts, **other})


class Told:
    """Stands where a Progress stands, and hands on what it is told."""

    def __init__(self, tell=lambda message: None):
        self._tell = tell

    def __call__(self, message):
        self._tell(message)

    def close(self):
        pass


@pytest.fixture(scope="module", params=VERSIONS)
def real(request):
    """A version as a tuple, and every name of its real bindings: those of classes, and functions."""
    environment = {**os.environ, "PYTHONPATH": rig(request.param)}
    out = subprocess.run([sys.executable, "-c", NAMES], env=environment, check=True, capture_output=True, text=True)
    return tuple(map(int, request.param.split("."))), *json.loads(out.stdout)


def test_every_name_that_is_used_on_a_versions_path_is_there(real):
    version, classes, functions = real
    taken = [feature for name, feature in engine_api.FEATURES.items() if engine_api.has(version, name)]
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
    older = [n for f in engine_api.FEATURES.values() if f.until <= (8, 6) for n in f.names]
    there = [name for name in older if name.split(".")[1] in classes[name.split(".")[0]]]
    assert there == (older if version < (9,) else [])


def test_the_table_lists_every_name_of_tensorrts_that_the_code_uses(real):
    _, classes, functions = real
    known = {name.split(".")[-1] for feature in engine_api.FEATURES.values() for name in feature.names}
    known |= {name.split(".")[0] for feature in engine_api.FEATURES.values() for name in feature.names}
    theirs = {name for names in classes.values() for name in names if not name.startswith("_")} | {*classes, *functions}
    package = Path(engine.__file__).parent
    for file in ("engine_main.py", "runners/trt.py"):
        used = {
            node.attr for node in ast.walk(ast.parse((package / file).read_text())) if isinstance(node, ast.Attribute)
        }
        assert (used & theirs) - known <= NOT_THEIRS


def test_an_fp32_file_becomes_an_engine_for_batches_of_every_size(tensorrt, model, tmp_path):
    facts = build_engine(request(model, tmp_path / "plan"), Told())
    assert facts["bytes"] == (tmp_path / "plan").stat().st_size > 1 << 20
    assert facts["layers"] > 100


def test_every_model_of_the_bundle_for_tensorrt_becomes_an_engine(tensorrt, bundle):
    opened = open_bundle(bundle)
    for model in opened.models:
        if model.name == "fp32" or "tensorrt" in model.backends:
            facts = ensure_engine(opened.file(model.file), ORIN).facts
            assert facts["key"]["precision"] == model.precision
            # Quantised weights show in the size.
            assert facts["bytes"] < os.path.getsize(opened.file("model.fp32.onnx")) * (
                1.1 if model.name == "fp32" else 0.8
            )


def test_progress_tells_tensorrts_own_phases(tensorrt, model, tmp_path):
    told: list[dict] = []
    build_engine(request(model, tmp_path / "plan"), Told(told.append))
    assert told[0] == {"phase": "Building engine", "step": 0, "steps": 6}


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
    with pytest.raises(BackendError, match=r"refuses batches of \[4, 1, 8\].*MIN<=OPT<=MAX"):
        build_engine(request(relu, tmp_path / "plan", batches=(4, 1, 8)), Told())


def test_what_is_no_onnx_file_is_refused(tensorrt, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BackendError, match=r"Failed to parse the ONNX model"):
        build_engine(request(tmp_path / "model.onnx", tmp_path / "plan"), Told())


def test_a_full_disk_is_a_sentence(tensorrt, relu):
    with pytest.raises(BackendError, match=r"/dev/full cannot be written.*No space left on device.*free some space"):
        build_engine(request(relu, "/dev/full"), Told())


def test_the_timing_cache_is_written_and_read_and_a_damaged_one_is_as_good_as_none(tensorrt, relu, tmp_path):
    timing = tmp_path / "timing"
    for before in (None, None, b"no timings"):
        if before:
            timing.write_bytes(before)
        build_engine(request(relu, tmp_path / "plan", timing=str(timing)), Told())
        assert len(timing.read_bytes()) > 100


def test_a_build_that_is_killed_is_an_error_with_the_remedy(tensorrt, model, tmp_path):
    def kill(message):
        (child,) = children()
        os.kill(child, signal.SIGKILL)

    with pytest.raises(BackendError, match=r"was killed, most likely because memory ran out.*256 MB with --workspace"):
        build_engine(request(model, tmp_path / "plan"), Told(kill))


def test_a_build_that_is_killed_is_tried_again_with_little_memory(tensorrt, relu, tmp_path, monkeypatch, caplog):
    kill = f"import os, sys; p = {str(tmp_path / 'killed')!r}; os.path.exists(p) or (open(p, 'w'), os.kill(os.getpid(), 9)); "
    monkeypatch.setattr(processes, "_START", kill + processes._START)
    assert ensure_engine(relu, ORIN).facts["workspace_bytes"] == 256 << 20
    assert re.search("was killed.* less than 4096 MB .*; trying again with 256 MB", caplog.text)


def children():
    """The processes that build for this one."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rsplit(")", 1)[1].split()[1]
            if int(parent) == os.getpid() and b"engine_main" in (path.parent / "cmdline").read_bytes():
                yield int(path.parent.name)
        except OSError:
            continue


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_the_system_ends_is_not_held_against_the_model(monkeypatch, tensorrt, relu, number):
    begin = processes._START
    monkeypatch.setattr(processes, "_START", f"import os; os.kill(os.getpid(), {int(number)})")
    with pytest.raises(BackendError, match=r"the build of the engine of model.fp32.onnx was ended from outside"):
        ensure_engine(relu, ORIN)
    monkeypatch.setattr(processes, "_START", begin)
    assert ensure_engine(relu, ORIN).plan


def test_the_building_process_ends_with_its_parent(tmp_path):
    # A pipe that nobody writes to keeps the build waiting.
    os.mkfifo(tmp_path / "model.fp32.onnx")
    ours, theirs = os.pipe()
    environment = {**os.environ, "PYTHONPATH": rig(BUILDS)}
    child = subprocess.Popen(
        runtime_command("engine_main", theirs),
        stdin=subprocess.PIPE,
        pass_fds=(theirs,),
        env=environment,
    )
    os.close(theirs)
    child.stdin.write(json.dumps(request(tmp_path / "model.fp32.onnx", tmp_path / "plan")._asdict()).encode() + b"\n")
    child.stdin.close()
    assert child.wait(30) == 1
    assert os.read(ours, 100) == b""
    os.close(ours)


def test_progress_is_a_line_that_changes_on_a_terminal_and_lines_elsewhere(monkeypatch, capsys):
    monkeypatch.setattr(engine_process, "_TELL_EVERY_S", 0)
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


def test_tensorrt_that_aborts_takes_its_own_process_alone(monkeypatch, relu, tmp_path):
    monkeypatch.setattr(processes, "_START", "import os; os.abort()")
    with pytest.raises(BackendError, match=r"TensorRT ended the building process of model.fp32.onnx by signal 6"):
        build_engine(request(relu, tmp_path / "plan"), Told())


def test_an_engine_is_built_once_and_kept_with_its_facts(tensorrt, relu, tmp_path, monkeypatch):
    first = ensure_engine(relu, ORIN)
    monkeypatch.setattr(engine, "build_engine", None)
    assert ensure_engine(relu, ORIN) == first
    assert first.facts["key"]["tensorrt"] == BUILDS
    assert first.facts["key"]["gpu"] == "Orin"
    assert first.facts["key"]["precision"] == "fp32"
    assert {path.suffix for path in (tmp_path / "cache/edgeclf/engines").iterdir()} == {".engine", ".json", ".timing"}


def kept(tmp_path, suffix):
    (path,) = (tmp_path / "cache/edgeclf/engines").glob("*" + suffix)
    return path


def test_an_engine_that_was_changed_is_never_used(tensorrt, relu, tmp_path, caplog):
    good = ensure_engine(relu, ORIN).plan
    file = kept(tmp_path, ".engine")
    file.write_bytes(b"foreign" + good)
    assert ensure_engine(relu, ORIN).plan != b"foreign" + good
    assert "is not used: it was changed (its sha256 differs from that beside it)" in caplog.text


def test_an_engine_for_something_else_is_not_used_and_what_differs_is_named(tensorrt, relu, tmp_path, caplog):
    ensure_engine(relu, ORIN)
    ensure_engine(relu, ORIN._replace(name="NVIDIA Thor", capability=(11, 0)))
    assert "is not used: compute_capability 8.7 (here 11.0), gpu Orin (here NVIDIA Thor)" in caplog.text


def test_an_engine_under_another_ones_name_is_not_used(tensorrt, relu, tmp_path, caplog):
    ensure_engine(relu, ORIN)
    file = kept(tmp_path, ".json")
    facts = json.loads(file.read_text())
    facts["key"]["tensorrt"] = "10.3.0.26"
    file.write_text(json.dumps(facts))
    ensure_engine(relu, ORIN)
    assert f"is not used: tensorrt 10.3.0.26 (here {BUILDS})" in caplog.text


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_an_engine_of_another_users_is_never_used(tensorrt, relu, tmp_path, caplog):
    ensure_engine(relu, ORIN)
    os.chown(kept(tmp_path, ".engine"), 1234, 1234)
    ensure_engine(relu, ORIN)
    assert "is not used: it belongs to another user (1234)" in caplog.text
    assert kept(tmp_path, ".engine").stat().st_uid == os.getuid()


def test_facts_that_are_garbled_make_the_engine_anew(tensorrt, relu, tmp_path, caplog):
    ensure_engine(relu, ORIN)
    for garbled in (b"", b"[]", b"{}", b'{"key": 1, "sha256": 2}', b"\xff"):
        kept(tmp_path, ".json").write_bytes(garbled)
        caplog.clear()
        ensure_engine(relu, ORIN)
        assert "cannot be used" in caplog.text


def test_a_refusal_is_remembered_until_it_is_to_be_tried_again(tensorrt, small, monkeypatch):
    bad = small([helper.make_node("Foo", ["image"], ["logits"])])
    with pytest.raises(BackendError, match=r"operator: Foo"):
        ensure_engine(bad, ORIN)
    builds = []
    monkeypatch.setattr(engine, "build_engine", lambda *_: builds.append(1) or {})
    with pytest.raises(BackendError, match=r"operator: Foo(.*\n)*.*that was tried before; to try again: build --retry"):
        ensure_engine(bad, ORIN)
    assert not builds
    ensure_engine(bad, ORIN, retry=True)
    assert builds


def test_a_cache_that_cannot_be_written_gives_way_to_a_temporary_folder(tensorrt, relu, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert ensure_engine(relu, ORIN).plan
    assert "engines cannot be written" in caplog.text
    assert "will be built anew at every start" in caplog.text


def test_too_little_space_is_told_before_minutes_are_spent(tensorrt, relu, monkeypatch):
    monkeypatch.setattr(engine.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(BackendError, match=r"has 0 MB free, an engine needs .* free some space"):
        ensure_engine(relu, ORIN)


def test_a_build_says_that_it_begins(tensorrt, relu, caplog):
    with caplog.at_level(logging.WARNING):
        ensure_engine(relu, ORIN)
    assert re.search(r"TensorRT 11.4.0.106 builds an engine of model.fp32.onnx \(fp32\) for Orin, once", caplog.text)


@pytest.fixture
def files(tmp_path):
    for name in ("fp32", "fp16", "int8-tensorrt", "int8-cpu"):
        (tmp_path / f"model.{name}.onnx").touch()
    return lambda name: str(tmp_path / f"model.{name}.onnx")


@pytest.mark.parametrize("version", [(8, 2, 1, 8), (8, 6, 1), (10, 3, 0), (10, 11)])
def test_up_to_10_11_fp16_is_the_fp32_file_and_a_flag(files, version):
    assert choose(files("fp16"), version, NANO) == (files("fp32"), "fp16", False)
    assert choose(files("int8-tensorrt"), version, ORIN) == (files("int8-tensorrt"), "int8", False)


@pytest.mark.parametrize("version", [(10, 12), (10, 13, 3), (11, 4, 0, 106)])
def test_from_10_12_on_the_files_types_count(files, version):
    assert choose(files("fp16"), version, ORIN) == (files("fp16"), "fp16", True)
    assert choose(files("int8-tensorrt"), version, ORIN) == (files("int8-tensorrt"), "int8", True)


@pytest.mark.parametrize("device", [NANO, TX2])
def test_a_gpu_without_int8_never_gets_a_qdq_file(files, device):
    with pytest.raises(BackendError, match=r"has no INT8; use the model fp16 or fp32 with --model"):
        choose(files("int8-tensorrt"), (8, 2, 1, 8), device)


def test_a_file_for_other_backends_is_refused(files):
    with pytest.raises(BackendError, match=r"TensorRT takes .*, not model.int8-cpu.onnx"):
        choose(files("int8-cpu"), (8, 6, 1), ORIN)


def test_a_board_of_4_gb_gets_a_small_workspace():
    assert workspace_for(NANO) == 256 << 20
    assert workspace_for(TX2) == (5 << 30) // 4
    assert workspace_for(ORIN) == 4 << 30
