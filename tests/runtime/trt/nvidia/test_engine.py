"""Engines that are built once and cached, with TensorRT 11.4's bindings and no GPU; see ``tensorrt_rig.py``."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import tempfile
from types import SimpleNamespace

import pytest
from onnx import helper

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.device import child_process
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.trt import engine, engine_cache
from edgeclf_runtime.trt.engine import ensure_engine, forget_engines
from edgeclf_runtime.trt.engine_spec import EngineOptions
from tests.support.engine_requests import Told
from tests.support.gpus import NANO, ORIN, RTX, TX2
from tests.support.tensorrt_rig import BUILDS


@pytest.mark.slow
def test_every_model_of_the_bundle_for_tensorrt_becomes_an_engine(tensorrt, bundle):
    opened = open_bundle(bundle)
    for model in opened.models:
        if model.name == "fp32" or "tensorrt" in model.backends:
            facts = ensure_engine(opened.file(model.file), ORIN).facts
            assert facts["key"]["precision"] == model.precision
            # Quantized weights show in the size.
            assert facts["bytes"] < os.path.getsize(opened.file("model.fp32.onnx")) * (
                1.1 if model.name == "fp32" else 0.8
            )


def test_a_build_that_is_killed_is_tried_again_with_little_memory(tensorrt, relu, tmp_path, monkeypatch, caplog):
    kill = f"import os, sys; p = {str(tmp_path / 'killed')!r}; os.path.exists(p) or (open(p, 'w'), os.kill(os.getpid(), 9)); "
    monkeypatch.setattr(child_process, "_START", kill + child_process._START)
    assert ensure_engine(relu, ORIN).facts["workspace_bytes"] == 256 << 20
    assert re.search("was killed.* less than 4096 MB .*; trying again with 256 MB", caplog.text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_the_system_ends_is_not_remembered_as_a_failure(monkeypatch, tensorrt, relu, number):
    begin = child_process._START
    monkeypatch.setattr(child_process, "_START", f"import os; os.kill(os.getpid(), {int(number)})")
    with pytest.raises(BackendError, match=r"the build of the engine of model.fp32.onnx was ended from outside"):
        ensure_engine(relu, ORIN)
    monkeypatch.setattr(child_process, "_START", begin)
    assert ensure_engine(relu, ORIN).plan


def test_an_engine_is_built_once_and_kept_with_its_facts(tensorrt, relu, tmp_path, monkeypatch):
    first = ensure_engine(relu, ORIN)
    monkeypatch.setattr(engine, "build_engine", None)
    assert ensure_engine(relu, ORIN) == first
    assert first.facts["key"]["tensorrt"] == BUILDS
    assert first.facts["key"]["gpu"] == "Orin"
    assert first.facts["key"]["precision"] == "fp32"
    assert {path.suffix for path in (tmp_path / "cache/edgeclf/engines").iterdir()} == {".engine", ".json", ".timing"}


def test_retry_rebuilds_an_engine_that_cannot_be_loaded(tensorrt, relu, tmp_path):
    first = ensure_engine(relu, ORIN)
    file = kept(tmp_path, ".engine")
    before = file.stat().st_mtime_ns
    assert ensure_engine(relu, ORIN, EngineOptions(retry=True)).facts["key"] == first.facts["key"]
    assert file.stat().st_mtime_ns > before


def kept(tmp_path, suffix):
    (path,) = (tmp_path / "cache/edgeclf/engines").glob("*" + suffix)
    return path


def test_an_engine_that_was_changed_is_never_used(tensorrt, relu, tmp_path, caplog):
    good = ensure_engine(relu, ORIN).plan
    file = kept(tmp_path, ".engine")
    file.write_bytes(b"foreign" + good)
    assert ensure_engine(relu, ORIN).plan != b"foreign" + good
    assert "is not used: it was changed (its sha256 differs from the one beside it)" in caplog.text


def test_an_engine_for_another_gpu_is_not_used_and_the_difference_is_logged(tensorrt, relu, tmp_path, caplog):
    ensure_engine(relu, ORIN)
    ensure_engine(relu, ORIN._replace(name="NVIDIA Thor", capability=(11, 0)))
    assert "is not used: compute_capability 8.7 (here 11.0), gpu Orin (here NVIDIA Thor)" in caplog.text


def test_an_engine_under_the_name_of_another_is_not_used(tensorrt, relu, tmp_path, caplog):
    ensure_engine(relu, ORIN)
    file = kept(tmp_path, ".json")
    facts = json.loads(file.read_text())
    facts["key"]["tensorrt"] = "10.3.0.26"
    file.write_text(json.dumps(facts))
    ensure_engine(relu, ORIN)
    assert f"is not used: tensorrt 10.3.0.26 (here {BUILDS})" in caplog.text


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_another_users_engine_is_never_used(tensorrt, relu, tmp_path, caplog):
    ensure_engine(relu, ORIN)
    os.chown(kept(tmp_path, ".engine"), 1234, 1234)
    ensure_engine(relu, ORIN)
    assert "is not used: it belongs to another user (1234)" in caplog.text
    assert kept(tmp_path, ".engine").stat().st_uid == os.getuid()


@pytest.mark.slow
def test_an_engine_with_damaged_facts_is_rebuilt(tensorrt, relu, tmp_path, caplog):
    ensure_engine(relu, ORIN)
    for garbled in (b"", b"[]", b"{}", b'{"key": 1, "sha256": 2}', b"\xff"):
        kept(tmp_path, ".json").write_bytes(garbled)
        caplog.clear()
        ensure_engine(relu, ORIN)
        assert "cannot be used" in caplog.text


def test_a_refusal_is_remembered_until_retry(tensorrt, small, monkeypatch):
    bad = small([helper.make_node("Foo", ["image"], ["logits"])])
    with pytest.raises(BackendError, match=r"operator: Foo"):
        ensure_engine(bad, ORIN)
    builds = []
    monkeypatch.setattr(engine, "build_engine", lambda *_: builds.append(1) or {"build_s": 1})
    with pytest.raises(
        BackendError, match=r"operator: Foo(.*\n)*.*this build failed before; to try again: build --retry"
    ):
        ensure_engine(bad, ORIN)
    assert not builds
    ensure_engine(bad, ORIN, EngineOptions(retry=True))
    assert builds


def test_the_users_own_cache_replaces_one_that_is_not_writable_with_a_warning(
    tensorrt, relu, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    first = ensure_engine(relu, ORIN)
    own = str(tmp_path / "home/.cache/edgeclf/engines")
    assert first.folder == own
    assert "file/edgeclf/engines is not writable" in caplog.text
    assert f"engines are stored in {own}" in caplog.text
    monkeypatch.setattr(engine, "build_engine", None)
    assert ensure_engine(relu, ORIN) == first


def test_without_a_writable_cache_a_temporary_folder_is_used(tensorrt, relu, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert ensure_engine(relu, ORIN).plan
    assert ensure_engine(relu, ORIN, EngineOptions(level=1)).plan
    assert not list(tmp_path.glob("edgeclf-engines-*"))
    assert "engines is not writable" in caplog.text
    assert "will be built at every start" in caplog.text


def test_options_make_a_separate_engine_which_is_used_from_then_on(tensorrt, relu):
    usual = ensure_engine(relu, RTX)
    asked = ensure_engine(relu, RTX, EngineOptions(hardware_compatible=True, level=1))
    assert asked.facts["key"] == {**usual.facts["key"], "hardware_compatible": True, "optimization_level": 1}
    assert ensure_engine(relu, RTX) == asked
    assert ensure_engine(relu, RTX, EngineOptions()) == usual == ensure_engine(relu, RTX)


def test_the_default_engine_replaces_one_that_is_forgotten_or_damaged(tensorrt, relu, tmp_path, caplog):
    usual = ensure_engine(relu, RTX)
    asked = ensure_engine(relu, RTX, EngineOptions(hardware_compatible=True))
    forget_engines(relu, RTX)
    assert ensure_engine(relu, RTX) == usual
    asked = ensure_engine(relu, RTX, EngineOptions(hardware_compatible=True))
    (facts,) = [path for path in (tmp_path / "cache").rglob("*.json") if json.loads(path.read_text()) == asked.facts]
    facts.with_suffix(".engine").write_bytes(b"damaged")
    assert ensure_engine(relu, RTX) == usual
    assert "is not used: it was changed" in caplog.text


def test_a_hardware_compatible_engine_serves_other_gpus_since_ampere(tensorrt, relu, monkeypatch, caplog):
    asked = ensure_engine(relu, RTX, EngineOptions(hardware_compatible=True))
    monkeypatch.setattr(engine, "build_engine", None)
    other = RTX._replace(name="NVIDIA RTX A2000", capability=(8, 6))
    assert ensure_engine(relu, other) == asked
    assert f"using an engine that TensorRT {BUILDS} built for {RTX.name}" in caplog.text
    with pytest.raises(TypeError, match="NoneType"):
        ensure_engine(relu, RTX._replace(name="RTX 2080", capability=(7, 5)))


@pytest.mark.parametrize(("version", "serves"), [("11.4.1.5", True), ("12.0.0", True), ("11.3.9.9", False)])
def test_a_version_compatible_engine_serves_only_later_tensorrts(
    tensorrt, relu, tmp_path, monkeypatch, version, serves
):
    # TensorRT's lean runtime, which would be inside of it, is not at hand: the facts are what counts here.
    keep = engine_cache.keep_facts
    monkeypatch.setattr(
        engine_cache, "keep_facts", lambda f, s, *rest: keep(f, s._replace(version_compatible=True), *rest)
    )
    monkeypatch.setattr(engine_cache, "new_engine", version_compatible(engine_cache.new_engine))
    built = ensure_engine(relu, RTX)
    monkeypatch.setattr(engine, "load_tensorrt", lambda: SimpleNamespace(__version__=version))
    monkeypatch.setattr(engine, "build_engine", None)
    if serves:
        assert ensure_engine(relu, RTX).facts == built.facts
    else:
        with pytest.raises(TypeError, match="NoneType"):
            ensure_engine(relu, RTX)


def version_compatible(new_engine):
    """Cache engines under the specification of a version-compatible one."""
    return lambda folder, spec: new_engine(folder, spec._replace(version_compatible=True))


def test_a_version_compatible_engine_needs_tensorrts_lean_runtime(tensorrt, relu):
    # These bindings come without it; TensorRT's own words say what to install.
    with pytest.raises(BackendError, match=r"TensorRT 11.4.0.106 refuses (.*\n)+.*libnvinfer_lean"):
        ensure_engine(relu, RTX, EngineOptions(version_compatible=True))


def test_a_missing_dla_is_a_clear_error(tensorrt, relu, small):
    fp16 = small([helper.make_node("Relu", ["image"], ["logits"])], name="model.fp16.onnx")
    with pytest.raises(
        BackendError,
        match=r"TensorRT 11.4.0.106 finds no DLA here, and --dla 0 was given; Xavier and Orin have DLA; leave out --dla",
    ):
        ensure_engine(fp16, ORIN, EngineOptions(dla=0))
    assert ensure_engine(fp16, ORIN).facts["key"]["dla"] is None


def test_the_duration_of_an_earlier_build_is_shown(tensorrt, relu, monkeypatch):
    ensure_engine(relu, ORIN)
    expected = []
    monkeypatch.setattr(engine, "Progress", lambda name, expected_s: expected.append(expected_s) or Told())
    build_s = ensure_engine(relu, ORIN, EngineOptions(level=1)).facts["build_s"]
    ensure_engine(relu, RTX)
    assert len(expected) == 2
    assert expected[0] == pytest.approx(build_s, abs=5)
    assert expected[1] is None


def test_facts_are_added_to_the_cached_ones(tensorrt, relu):
    first = ensure_engine(relu, ORIN)
    added = engine_cache.add_facts(first.folder, first.spec, layers={"a": "FP32"})
    assert added == {**first.facts, "layers": {"a": "FP32"}} == ensure_engine(relu, ORIN).facts
    assert engine_cache.add_facts(first.folder, first.spec._replace(gpu="other"), layers={}) is None


def test_too_little_disk_space_is_reported_before_the_build(tensorrt, relu, monkeypatch):
    monkeypatch.setattr(engine.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(BackendError, match=r"has 0 MB free, and an engine needs .* free some space"):
        ensure_engine(relu, ORIN)


def test_the_start_of_a_build_is_logged(tensorrt, relu, caplog):
    with caplog.at_level(logging.WARNING):
        ensure_engine(relu, ORIN)
    assert re.search(
        r"TensorRT 11.4.0.106 is building an engine of model.fp32.onnx \(fp32\) for Orin; this is done once",
        caplog.text,
    )


@pytest.fixture
def mode(monkeypatch):
    """Set the power mode that a Jetson reports."""

    def set_mode(name):
        monkeypatch.setattr("edgeclf_runtime.device.machine.power_mode", lambda: name)

    set_mode("MAXN (mode 0)")
    return set_mode


def test_each_power_mode_has_an_engine_and_timings_of_its_own(tensorrt, relu, mode, tmp_path):
    first = ensure_engine(relu, ORIN)
    mode("15W (mode 2)")
    second = ensure_engine(relu, ORIN, EngineOptions())
    assert second.facts["key"] == {**first.facts["key"], "power_mode": "15W (mode 2)"}
    assert ensure_engine(relu, ORIN) == second
    mode("MAXN (mode 0)")
    assert ensure_engine(relu, ORIN) == first
    folder = tmp_path / "cache/edgeclf/engines"
    assert len(list(folder.glob("*.engine"))) == len(list(folder.glob("*.timing"))) == 2


def test_an_engine_of_another_power_mode_is_used_until_one_is_built_and_the_log_says_so(
    tensorrt, relu, mode, monkeypatch, caplog
):
    built = ensure_engine(relu, ORIN)
    mode("15W (mode 2)")
    with monkeypatch.context() as patch:
        patch.setattr(engine, "build_engine", None)
        assert ensure_engine(relu, ORIN) == built
    said = "was built in power mode MAXN (mode 0); the mode is now 15W (mode 2): build makes an engine for it"
    assert said in caplog.text
    ensure_engine(relu, ORIN, EngineOptions())
    caplog.clear()
    assert ensure_engine(relu, ORIN).facts["key"]["power_mode"] == "15W (mode 2)"
    assert caplog.text == ""


def test_only_the_power_mode_may_differ(tensorrt, relu, mode, monkeypatch):
    ensure_engine(relu, ORIN)
    mode("15W (mode 2)")
    monkeypatch.setattr(engine, "build_engine", None)
    with pytest.raises(TypeError, match="NoneType"):
        ensure_engine(relu, ORIN._replace(name="NVIDIA Thor"))


def test_requested_options_stay_in_use_in_every_power_mode(tensorrt, relu, mode):
    usual = ensure_engine(relu, ORIN)
    asked = ensure_engine(relu, ORIN, EngineOptions(level=1))
    mode("15W (mode 2)")
    assert ensure_engine(relu, ORIN) == asked
    assert ensure_engine(relu, ORIN, EngineOptions(level=1)).facts["key"]["power_mode"] == "15W (mode 2)"
    mode("MAXN (mode 0)")
    assert ensure_engine(relu, ORIN) == asked
    forget_engines(relu, ORIN)
    assert ensure_engine(relu, ORIN) == usual


def test_a_model_that_tensorrt_refused_in_one_power_mode_is_not_built_in_another(tensorrt, small, mode, monkeypatch):
    bad = small([helper.make_node("Foo", ["image"], ["logits"])])
    with pytest.raises(BackendError, match=r"operator: Foo"):
        ensure_engine(bad, ORIN)
    mode("15W (mode 2)")
    monkeypatch.setattr(engine, "build_engine", None)
    with pytest.raises(BackendError, match=r"this build failed before"):
        ensure_engine(bad, ORIN)


@pytest.mark.parametrize(("device", "lean"), [(NANO, True), (TX2, False), (ORIN, False), (RTX, False)])
def test_only_a_board_of_little_memory_builds_without_cublas_and_cudnn(tensorrt, relu, monkeypatch, device, lean):
    asked = []
    real = engine.build_engine
    monkeypatch.setattr(engine, "build_engine", lambda spec, progress: asked.append(spec) or real(spec, progress))
    facts = ensure_engine(relu, device).facts
    assert [spec.lean for spec in asked] == [lean]
    # TensorRT 11 has neither.
    assert (facts["libraries"], facts["plugins"]) == ([], False)
