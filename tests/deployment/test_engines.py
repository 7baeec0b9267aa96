"""``edgeclf build``: the runtime's build for this machine's GPU, and a sentence for any other."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import fields

import pytest

import edgeclf
from edgeclf.deployment import engines
from edgeclf.errors import BackendError, OptionError
from edgeclf.options import BuildOptions
from edgeclf_runtime.commands import build as engine_build
from edgeclf_runtime.trt import cuda
from edgeclf_runtime.trt.engine_spec import OPTIONS, EngineOptions


def test_the_report_is_text_or_json(bundle, monkeypatch, command):
    asked = []

    def build(*arguments):
        asked.append(arguments)
        facts = {"bytes": 3_000_000, "layer_precisions": {"FP16": 9}}
        engine = engine_build.BuiltEngine("fp16", "fp16", 41.0, facts)
        return engine_build.BuildReport("10.13.3", "RTX", (engine,), {}, None, "cache", "")

    monkeypatch.setattr(engine_build, "build", build)
    arguments = ("build", bundle, "--precision", "fp16", "--workspace", "512", "--level", "5", "--version-compatible")
    code, out, _ = command(*arguments)
    assert (code, out) == (
        0,
        "TensorRT 10.13.3 on RTX, engines in cache\nready: fp16 (fp16), 3.0 MB, 41 s, layers: 9 FP16\n",
    )
    code, out, _ = command(*arguments, "--json")
    assert json.loads(out)["engines"][0]["facts"]["layer_precisions"] == {"FP16": 9}
    wanted = EngineOptions(workspace=512, level=5, version_compatible=True)
    assert asked[1] == (str(bundle), None, "fp16", wanted)


def test_if_nothing_could_be_built_the_exit_code_is_1(bundle, monkeypatch, command):
    report = engine_build.BuildReport("11.4", "RTX", (), {"fp32 on tensorrt": "because"}, None, "cache", "")
    monkeypatch.setattr(engine_build, "build", lambda *_: report)
    code, out, err = command("build", bundle)
    assert code == 1
    assert "not built: fp32 on tensorrt: because" in out
    device = [f"next: scp -r {bundle} DEVICE:", f"next: ssh DEVICE 'python3 {bundle.name} build'"]
    assert err.splitlines() == [f"next: python3 {bundle} doctor", *device]
    assert command("build", bundle, "--json")[2] == ""


def test_without_tensorrt_here_the_next_step_is_on_the_device(bundle, monkeypatch, command):
    def build(*_):
        raise BackendError("TensorRT is not installed")

    monkeypatch.setattr(engine_build, "build", build)
    code, _, err = command("build", bundle)
    assert (code, err.splitlines()) == (
        1,
        [
            "error: TensorRT is not installed",
            f"next: scp -r {bundle} DEVICE:",
            f"next: ssh DEVICE 'python3 {bundle.name} build'",
        ],
    )


@pytest.mark.parametrize("target", ["jetson-orin", "jetson-nano", "jetson-thor"])
def test_an_engine_for_another_machine_is_refused_with_the_two_commands_that_make_it_there(bundle, target):
    with pytest.raises(BackendError) as refused:
        edgeclf.build(bundle, BuildOptions(target=target))
    assert str(refused.value).startswith(f"an engine for {target} cannot be built on this {platform.machine()} machine")
    assert str(refused.value).endswith(f"\n  scp -r {bundle} DEVICE:\n  ssh DEVICE 'python3 {bundle.name} build'")


def test_a_target_without_a_gpu_needs_no_engine(bundle):
    with pytest.raises(BackendError, match=r"arm-cpu has no NVIDIA GPU and needs no engine"):
        edgeclf.build(bundle, BuildOptions(target="arm-cpu"))


def test_this_machine_may_be_named_and_a_jetson_is_one_where_it_runs(bundle, monkeypatch):
    monkeypatch.setattr(engine_build, "build", lambda *_: engine_build.BuildReport("8.2", "X1", (), {}, None, "", ""))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert edgeclf.build(bundle, BuildOptions(target="x86-gpu")).gpu == "X1"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(engines, "is_jetson", lambda: True)
    assert edgeclf.build(bundle, BuildOptions(target="jetson-nano")).gpu == "X1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "toaster"}, "target is 'toaster'; x86-gpu, "),
        ({"precision": "int4"}, "precision is 'int4'; best, fp32, fp16, int8 was expected"),
        ({"workspace": 0}, "workspace is 0; 1 megabyte or more"),
        ({"level": 6}, "level is 6; 0 to 5"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        BuildOptions(**options)


def test_the_engine_options_are_those_that_the_runtime_declares():
    stated = {one.name: one for one in fields(BuildOptions)}
    for name, one in OPTIONS.items():
        assert (name in stated) == one.host
        if one.host:
            assert stated[name].metadata["help"].lower().startswith(one.help.lower())
            assert stated[name].default == getattr(EngineOptions(), name)
    given = BuildOptions(workspace=128, level=0, version_compatible=True, retry=True)
    assert given.engine == EngineOptions(workspace=128, level=0, version_compatible=True, retry=True)


def test_without_tensorrt_it_says_how_to_install_it(bundle, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, _, err = command("build", bundle, "--precision", "fp32")
    assert code == 1
    assert f"install it: {sys.executable} -m pip install tensorrt\n" in err


def test_without_a_driver_it_is_a_one_line_error(bundle, monkeypatch, command):
    monkeypatch.setattr(engine_build, "load_tensorrt", lambda: engine_build)
    monkeypatch.setattr(engine_build, "__version__", "11.4", raising=False)
    monkeypatch.setattr(cuda, "_library_paths", lambda: ["libnothing-of-that-name.so"])
    code, _, err = command("build", bundle, "--precision", "fp32")
    assert code == 1
    assert err.startswith("error: libcudart, CUDA's runtime library, was not found; install it")
