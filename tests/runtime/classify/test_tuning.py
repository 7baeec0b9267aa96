import json
import logging

import pytest

from edgeclf_runtime.bundle.open_bundle import Tolerance
from edgeclf_runtime.classify import tuning
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.selection import candidates

INT8, ORT, OPENCV = "int8-cpu on onnxruntime", "fp32 on onnxruntime", "fp32 on opencv"


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def opened(two_backends):
    """The bundle for two backends, INT8 first."""
    return two_backends._replace(order={"default": ["int8-cpu", "fp32"]})


@pytest.fixture
def file(opened, tmp_path):
    return tmp_path / "cache" / "edgeclf" / "tuning" / f"{opened.id}.json"


@pytest.fixture
def measured(monkeypatch):
    """Figures that stand for a measurement, which no test can foresee: measured(...) sets them."""

    def set_figures(**figures):
        latency_ms = {{"int8": INT8, "ort": ORT, "opencv": OPENCV}[name]: ms for name, ms in figures.items()}
        monkeypatch.setattr(tuning, "measure", lambda *_: latency_ms)

    return set_figures


def names(pairs):
    return [f"{model.name} on {backend}" for model, backend in pairs]


@pytest.mark.slow
def test_a_real_measurement_gives_milliseconds_of_every_pair(opened):
    assert names(candidates(opened)) == [INT8, ORT, OPENCV]
    latency_ms = tuning.measure(opened, candidates(opened), threads=1)
    assert set(latency_ms) == {INT8, ORT, OPENCV}
    assert all(ms > 0 for ms in latency_ms.values())


@pytest.mark.slow
def test_the_pairs_take_turns_and_only_one_is_loaded(opened, monkeypatch):
    loaded, turns = [], []
    real = tuning.open_proven

    def open_counted(bundle, model, backend, threads):
        assert not loaded
        runner = real(bundle, model, backend, 1)
        close = runner.close
        runner.close = lambda: (close(), loaded.remove(backend))
        loaded.append(backend)
        turns.append(backend)
        return runner

    monkeypatch.setattr(tuning, "open_proven", open_counted)
    monkeypatch.setattr(tuning, "BLOCK_S", 0.0)
    tuning.measure(opened, candidates(opened, "fp32"))
    assert turns == ["onnxruntime", "opencv"] * tuning.ROUNDS


@pytest.mark.slow
def test_a_pair_that_fails_its_golden_images_is_not_measured(opened, caplog):
    broken = opened._replace(
        models=tuple(
            model._replace(tolerances={"default": Tolerance(0.0, 0.0, 0.0)}) if model.name == "int8-cpu" else model
            for model in opened.models
        )
    )
    assert set(tuning.measure(broken, candidates(broken), threads=1)) == {ORT, OPENCV}
    assert caplog.text.count(f"passed over {INT8}: FAIL: ") == 1


def test_the_fastest_comes_first_and_is_remembered(opened, measured):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    pairs = candidates(opened)
    assert names(tuning.recall(opened, pairs)) == [INT8, ORT, OPENCV]
    assert names(tuning.tune(opened, pairs)) == [OPENCV, ORT, INT8]
    assert names(tuning.recall(opened, pairs)) == [OPENCV, ORT, INT8]


def test_int8_is_used_only_if_it_is_clearly_faster(opened, measured):
    pairs = candidates(opened)
    for int8, first in ((4.0, INT8), (4.9, ORT), (5.1, ORT)):
        measured(int8=int8, ort=5.0, opencv=9.0)
        assert names(tuning.tune(opened, pairs))[0] == first


def test_a_pair_that_does_not_run_comes_last(opened, measured):
    measured(ort=7.0, opencv=5.0)
    assert names(tuning.tune(opened, candidates(opened))) == [OPENCV, ORT, INT8]


def test_the_classifier_tunes_once_and_then_starts_with_what_it_found(opened, measured, monkeypatch):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    with Classifier.open(opened, tune=True) as classifier:
        assert (classifier.model, classifier.backend) == ("fp32", "opencv")
    monkeypatch.setattr(tuning, "measure", lambda *_: pytest.fail("measured again"))
    with Classifier.open(opened) as classifier:
        assert (classifier.model, classifier.backend) == ("fp32", "opencv")
    with Classifier.open(opened, "int8-cpu", tune=True) as classifier:
        assert classifier.model == "int8-cpu"


def test_a_part_that_is_measured_again_leaves_the_rest_remembered(opened, measured, file):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    tuning.tune(opened, candidates(opened))
    measured(opencv=20.0)
    tuning.tune(opened, candidates(opened, "fp32"))
    (entry,) = json.loads(file.read_text())["devices"]
    assert entry["latency_ms"] == {INT8: 9.0, OPENCV: 20.0}


@pytest.mark.parametrize("changed", ["threads", "processor", "power_mode", "backends"])
def test_another_device_or_version_measures_for_itself(opened, measured, monkeypatch, changed):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    pairs = candidates(opened)
    tuning.tune(opened, pairs)
    if changed in ("processor", "power_mode"):
        facts = dict(tuning.machine_facts(), **{changed: "another"})
        monkeypatch.setattr(tuning, "machine_facts", lambda: facts)
    if changed == "backends":
        monkeypatch.setattr(tuning, "backend_version", lambda _: "99")
    threads = 1 if changed == "threads" else None
    assert names(tuning.recall(opened, pairs, threads)) == [INT8, ORT, OPENCV]
    measured(int8=1.0, ort=7.0, opencv=5.0)
    tuning.tune(opened, pairs, threads)
    assert names(tuning.recall(opened, pairs, threads))[0] == INT8


def test_several_devices_share_one_file_of_limited_size(opened, measured, file):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    for threads in range(1, 40):
        tuning.tune(opened, candidates(opened), threads)
    devices = [entry["device"]["threads"] for entry in json.loads(file.read_text())["devices"]]
    assert devices == list(range(8, 40))
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff{",
        b"[]",
        b'{"devices": [1]}',
        b'{"devices": [{"device": {}, "latency_ms": {"a": "fast"}}]}',
        b'{"devices": [{"device": {}, "latency_ms": {"a": -1}}]}',
        b"[" * 200000,
        b" " * (2 << 20),
    ],
)
def test_a_damaged_file_is_a_warning_and_is_replaced(opened, measured, file, caplog, content):
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    pairs = candidates(opened)
    assert tuning.recall(opened, pairs) == pairs
    assert f"earlier measurements in {file} cannot be read" in caplog.text
    measured(int8=9.0, ort=7.0, opencv=5.0)
    tuning.tune(opened, pairs)
    caplog.clear()
    assert names(tuning.recall(opened, pairs))[0] == OPENCV
    assert caplog.text == ""


def test_a_cache_that_cannot_be_written_is_a_warning(opened, measured, monkeypatch, tmp_path, caplog):
    (tmp_path / "taken").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    measured(int8=9.0, ort=7.0, opencv=5.0)
    assert names(tuning.tune(opened, candidates(opened)))[0] == OPENCV
    assert "the measurements cannot be stored" in caplog.text


def test_without_a_name_for_the_cache_it_is_in_the_users_home(opened, measured, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    measured(int8=9.0, ort=7.0, opencv=5.0)
    tuning.tune(opened, candidates(opened))
    assert (tmp_path / ".cache" / "edgeclf" / "tuning" / f"{opened.id}.json").is_file()


def test_measurements_are_logged(opened, measured, caplog):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    with caplog.at_level(logging.INFO):
        tuning.tune(opened, candidates(opened))
    assert f"'{INT8}': 9.0" in caplog.text


def test_measurements_are_shown_with_reasons_and_earlier_measurements(opened, monkeypatch):
    shown = []

    def measure(bundle, pairs, threads, failures):
        failures[OPENCV] = "opencv is broken\n  in two lines"
        return {INT8: 4.5, ORT: 9.25}

    monkeypatch.setattr(tuning, "measure", measure)
    for _ in range(2):
        tuning.tune(opened, candidates(opened), show=shown.append)
    first, second = (str(report).splitlines() for report in shown)
    assert first == [
        "measured on this device, fastest first:",
        "model on backend           p50 ms  golden images",
        "int8-cpu on onnxruntime     4.500  passed",
        "fp32 on onnxruntime         9.250  passed",
        "fp32 on opencv                  -  opencv is broken",
    ]
    assert "  passed; earlier on 20" in second[2]
    assert second[2].endswith("Z: 4.500 ms")


def test_a_single_pair_is_not_measured(opened):
    shown = []
    tuning.tune(opened, candidates(opened, "int8-cpu"), show=shown.append)
    assert str(shown[0]) == f"nothing to compare: only {INT8} can run here"


def test_a_pair_that_fails_has_a_reason(opened):
    broken = opened._replace(
        models=tuple(model._replace(tolerances={"default": Tolerance(0.0, 0.0, 0.0)}) for model in opened.models)
    )
    failures = {}
    assert tuning.measure(broken, candidates(broken), 1, failures) == {}
    assert set(failures) == {INT8, ORT, OPENCV}
    assert all("FAIL" in reason for reason in failures.values())


def test_measurements_in_another_power_mode_are_not_used_and_the_log_says_so(opened, measured, monkeypatch, caplog):
    facts = dict(tuning.machine_facts(), power_mode="5W (mode 1)")
    monkeypatch.setattr(tuning, "machine_facts", lambda: facts)
    measured(int8=9.0, ort=7.0, opencv=5.0)
    pairs = candidates(opened)
    tuning.tune(opened, pairs)
    facts["power_mode"] = "MAXN (mode 0)"
    assert tuning.recall(opened, pairs) == pairs
    assert "measurements in power mode 5W (mode 1) are not used in MAXN (mode 0)" in caplog.text
    caplog.clear()
    facts["processor"] = "another"
    assert tuning.recall(opened, pairs) == pairs
    assert caplog.text == ""
