import contextlib
import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from edgeclf_runtime.commands import bench as benchmark
from edgeclf_runtime.commands.bench import COLUMNS, STAGES, bench, summarize
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.runners import RUNNERS
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner
from tests.support.boards import nano, orin, write
from tests.support.starting import WAIT_S

pytestmark = pytest.mark.slow


OPTIONS = {"repeat": 6, "warmup": 1, "threads": 1}


def test_percentiles_are_those_of_the_numbers():
    assert summarize(range(1, 101)) == {
        "p50": 50.5,
        "p90": 90.1,
        "p95": 95.05,
        "p99": 99.01,
        "mean": 50.5,
        "std": 28.866,
    }
    assert summarize([7]) == {"p50": 7, "p90": 7, "p95": 7, "p99": 7, "mean": 7, "std": 0}


def test_every_model_is_measured_as_often_as_was_asked(bundle):
    report = bench(bundle, repeat=7, warmup=1, threads=1)
    assert report.samples_ms
    assert not report.failures
    for name, samples in report.samples_ms.items():
        assert len(samples) == 7
        assert set(report.latency_ms[name]) == set(STAGES)
        for stage, row in report.latency_ms[name].items():
            if stage != "transfer":
                assert 0 <= row["p50"] <= row["p90"] <= row["p95"] <= row["p99"]
                assert set(row) == set(COLUMNS)
        assert report.backends[name] in RUNNERS
        assert name in str(report)
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_only_the_models_that_are_named_are_measured(bundle):
    report = bench(bundle, backend="onnxruntime", models=["fp32", "none"], **OPTIONS)
    assert (set(report.latency_ms), report.failures) == ({"fp32"}, {})


def test_throughput_is_that_of_the_totals(bundle):
    report = bench(bundle, **OPTIONS)
    for name, samples in report.samples_ms.items():
        assert report.frames_per_s[name] == pytest.approx(len(samples) / sum(samples) * 1e3, rel=0.01)


def test_frames_have_the_size_that_was_asked_for(bundle, monkeypatch):
    sizes = set()
    real = benchmark.Classifier.classify
    monkeypatch.setattr(
        benchmark.Classifier, "classify", lambda self, image: sizes.add(image.shape) or real(self, image)
    )
    report = bench(bundle, size=(96, 64), **OPTIONS)
    assert sizes == {(64, 96, 3)}
    assert report.frame_size == [96, 64]
    assert bench(bundle, **OPTIONS).frame_size == [1280, 720]


def test_copies_to_a_gpu_are_a_separate_stage_if_the_runner_measures_them(bundle, monkeypatch):
    assert {row["transfer"] for row in bench(bundle, **OPTIONS).latency_ms.values()} == {None}
    monkeypatch.setattr(OnnxRuntimeRunner, "transfer_ms", 0.001, raising=False)
    report = bench(bundle, backend="onnxruntime", **OPTIONS)
    assert len(report.latency_ms) > 1
    for row in report.latency_ms.values():
        assert row["transfer"]["p50"] == 0.001
        stages = [row[stage]["mean"] for stage in ("preprocess", "transfer", "inference", "postprocess")]
        assert sum(stages) == pytest.approx(row["total"]["mean"], abs=0.005)
    assert " transfer " in str(report)


def test_energy_and_the_state_before_and_after_are_in_the_report(bundle, tmp_path):
    report = bench(bundle, root=str(nano(tmp_path)), **OPTIONS)
    assert all(joules > 0 for joules in report.joules_per_frame.values())
    assert " mJ per frame; throttling unknown" in str(report)
    assert report.telemetry["before"]["power_total_mw"] == report.telemetry["after"]["power_total_mw"] == 2875
    assert report.machine["board"] == "NVIDIA Jetson Nano Developer Kit"


def test_energy_that_cannot_be_read_is_unknown(bundle, tmp_path):
    report = bench(bundle, root=str(tmp_path), **OPTIONS)
    assert set(report.joules_per_frame.values()) == {None}
    assert "energy unknown; throttling unknown" in str(report)


def test_a_machine_that_does_not_slow_down_is_said_not_to(bundle, tmp_path):
    report = bench(bundle, root=str(orin(tmp_path)), **OPTIONS)
    for row in report.throttling.values():
        assert row == {"windows": 3, "throttled": 0, "unknown": 0, "latency_ms": None}
    assert "; throttled in 0 of 3 windows" in str(report)


def test_windows_in_which_the_machine_slowed_down_are_counted_and_left_out(bundle, tmp_path, monkeypatch):
    orin(tmp_path)
    look = benchmark.read_telemetry
    seen = []

    def rise(root):
        # The first look is the report's own, then each round begins and ends with one.
        seen.append(None)
        write(tmp_path, {"sys/class/hwmon/hwmon3/oc3_event_cnt": f"{min(len(seen), 3)}\n"})
        return look(root)

    monkeypatch.setattr(benchmark, "read_telemetry", rise)
    report = bench(bundle, root=str(tmp_path), models=["fp32", "int8-cpu"], **OPTIONS)
    first, second = (report.throttling[name] for name in sorted(report.throttling))
    assert (first["windows"], first["throttled"], second["throttled"]) == (3, 1, 0)
    assert first["latency_ms"]["total"]["p50"] > 0
    assert second["latency_ms"] is None


def test_where_every_window_is_slow_there_are_no_figures_without_them(bundle, tmp_path):
    orin(tmp_path)
    write(tmp_path, {"sys/class/thermal/cooling_device1/cur_state": "1\n"})
    report = bench(bundle, root=str(tmp_path), **OPTIONS)
    for row in report.throttling.values():
        assert (row["windows"], row["throttled"], row["latency_ms"]) == (3, 3, None)


def test_a_bundle_of_which_nothing_runs_is_an_error(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match="onnxruntime is not installed for"):
        bench(bundle, repeat=1, backend="onnxruntime")


def test_a_model_that_fails_on_the_way_is_a_failure_and_no_figure(bundle, monkeypatch):
    real, calls = benchmark.Classifier.classify, []

    def classify(self, image):
        calls.append(self.model)
        if self.model == "fp32" and calls.count("fp32") == 5:
            raise BackendError("the GPU is gone:\nit fell off\x07")
        return real(self, image)

    monkeypatch.setattr(benchmark.Classifier, "classify", classify)
    report = bench(bundle, **OPTIONS)
    assert report.failures == {"fp32": "the GPU is gone:\nit fell off\x07"}
    assert set(report.backends) == set(report.latency_ms)
    assert "fp32" not in report.latency_ms
    assert str(report).endswith("\nfp32             the GPU is gone:\n                 it fell off\\x07")


def test_progress_is_for_terminals(bundle, capfd):
    bench(bundle, **OPTIONS)
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_ends_it_and_leaves_a_clean_line(bundle):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edgeclf_runtime", "bench", str(bundle), "--repeat", "1000000", "--threads", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    os.close(theirs)
    shown = b""
    while b" frames, p50 " not in shown:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_S) == 130
    assert process.stdout.read() == b""
    process.stdout.close()
    # A terminal whose other end is closed says so by an error, after what is left.
    rest = shown
    with contextlib.suppress(OSError):
        while True:
            rest += os.read(ours, 4096)
    os.close(ours)
    assert rest.endswith(b"\r\033[K")
    assert b"Traceback" not in rest


def test_a_model_stays_on_the_backend_that_it_began_with(bundle, monkeypatch):
    opened = []
    real = benchmark.Classifier.__init__

    def init(self, runner, *arguments):
        opened.append((arguments[2], runner.backend))
        real(self, runner, *arguments)

    monkeypatch.setattr(benchmark.Classifier, "__init__", init)
    report = bench(bundle, **OPTIONS)
    assert sorted(opened) == sorted(list(report.backends.items()) * 3)
