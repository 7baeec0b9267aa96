import json
import logging

import pytest

from edgeclf_runtime.classify import selection
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.selection import candidates
from edgeclf_runtime.classify.tuning import candidate, choice, memory, parent
from edgeclf_runtime.classify.tuning.choice import choose, remembered
from edgeclf_runtime.classify.tuning.memory import Figures, one_at_a_time
from edgeclf_runtime.errors import BackendError

INT8, ORT, OPENCV = "int8-cpu on onnxruntime", "fp32 on onnxruntime", "fp32 on opencv"
SHORT = {"int8": INT8, "ort": ORT, "opencv": OPENCV}


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(choice.NO_TUNE, raising=False)


@pytest.fixture
def opened(two_backends, monkeypatch):
    """The bundle for two backends, INT8 first, each with its own number of threads only."""
    monkeypatch.setattr(candidate, "_other_threads", list)
    return two_backends._replace(order={"default": ["int8-cpu", "fp32"]})


@pytest.fixture
def file(opened, tmp_path, monkeypatch):
    # pytest gives the folder of a test that passed to the next one.
    monkeypatch.setattr(memory, "_warned", set())
    return tmp_path / "cache" / "edgeclf" / "tuning" / f"{opened.id}.json"


@pytest.fixture
def measured(monkeypatch):
    """Figures that stand for a measurement, which no test can foresee: measured(...) sets them; .times counts."""

    def set_figures(crashed=(), **figures):
        def measure(bundle, found, purpose, limits):
            set_figures.times += 1
            names = [one.name for one in found]
            latency_ms = {SHORT[name]: ms for name, ms in figures.items() if SHORT[name] in names}
            failures = {name: "it failed\nas expected" for name in names if name not in latency_ms}
            return Figures(latency_ms, failures, tuple(SHORT[name] for name in crashed))

        monkeypatch.setattr(parent, "measure", measure)

    set_figures.times = 0
    return set_figures


def names(found):
    return [f"{model.name} on {backend}" for model, backend in found.pairs]


def test_the_fastest_comes_first_and_is_remembered(opened, measured):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    pairs = candidates(opened)
    assert names(choose(opened, pairs)) == [INT8, ORT, OPENCV]
    assert names(choose(opened, pairs, tune=True)) == [OPENCV, ORT, INT8]
    assert names(choose(opened, pairs)) == [OPENCV, ORT, INT8]


def test_int8_is_used_only_if_it_is_clearly_faster(opened, measured):
    pairs = candidates(opened)
    for int8, first in ((4.0, INT8), (4.9, ORT), (5.1, ORT)):
        measured(int8=int8, ort=5.0, opencv=9.0)
        assert names(choose(opened, pairs, tune=True))[0] == first


def test_a_pair_that_does_not_run_comes_last(opened, measured):
    measured(ort=7.0, opencv=5.0)
    assert names(choose(opened, candidates(opened), tune=True)) == [OPENCV, ORT, INT8]


def test_a_first_start_measures_and_later_ones_do_not(opened, measured):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    for _ in range(2):
        assert names(choose(opened, candidates(opened), tune=None))[0] == OPENCV
        assert measured.times == 1


def test_an_option_reduces_the_candidates_and_uses_what_is_remembered(opened, measured):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    choose(opened, candidates(opened), tune=None)
    assert names(choose(opened, candidates(opened, "fp32"), tune=None)) == [OPENCV, ORT]
    assert names(choose(opened, candidates(opened, None, "onnxruntime"), tune=None)) == [ORT, INT8]
    assert measured.times == 1
    choose(opened, candidates(opened), threads=1, tune=None)
    assert measured.times == 2


@pytest.mark.parametrize("reason", ["the environment variable", "a GPU"])
def test_a_first_start_measures_nothing_with(opened, measured, monkeypatch, reason):
    pairs = candidates(opened)
    if reason == "a GPU":
        pairs = [(pairs[0][0], "tensorrt"), *pairs]
    else:
        monkeypatch.setenv(choice.NO_TUNE, "1")
    measured(int8=9.0, ort=7.0, opencv=5.0)
    assert choose(opened, pairs, tune=None).pairs == pairs
    assert measured.times == 0


def test_a_single_candidate_is_not_measured(opened, measured):
    shown = []
    for tune in (None, True):
        choose(opened, candidates(opened, "int8-cpu"), tune=tune, show=shown.append)
    assert measured.times == 0
    assert [str(one) for one in shown] == [f"nothing to compare: only {INT8} can run here"]


def test_the_classifier_uses_what_is_remembered_and_measures_only_if_it_is_told_to(opened, measured):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    with Classifier.open(opened) as classifier:
        assert (classifier.model, measured.times) == ("int8-cpu", 0)
    with Classifier.open(opened, tune=None) as classifier:
        assert (classifier.model, classifier.backend, measured.times) == ("fp32", "opencv", 1)
    with Classifier.open(opened) as classifier:
        assert (classifier.model, classifier.backend, measured.times) == ("fp32", "opencv", 1)
    with Classifier.open(opened, "int8-cpu", tune=True) as classifier:
        assert classifier.model == "int8-cpu"


def test_a_part_that_is_measured_again_leaves_the_rest_remembered(opened, measured, file):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    choose(opened, candidates(opened), tune=True)
    measured(opencv=20.0)
    choose(opened, candidates(opened, "fp32"), tune=True)
    (entry,) = json.loads(file.read_text())["devices"]
    assert entry["latency_ms"] == {INT8: 9.0, OPENCV: 20.0}
    assert list(entry["failures"]) == [ORT]


@pytest.mark.parametrize("changed", ["threads", "processor", "cores", "power_mode", "backends"])
def test_another_device_or_version_measures_for_itself(opened, measured, monkeypatch, changed):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    pairs = candidates(opened)
    choose(opened, pairs, tune=None)
    if changed in ("processor", "cores", "power_mode"):
        facts = dict(memory.machine_facts(), **{changed: "another"})
        monkeypatch.setattr(memory, "machine_facts", lambda: facts)
    if changed == "backends":
        monkeypatch.setattr(memory, "backend_version", lambda _: "99")
    threads = 1 if changed == "threads" else None
    assert names(choose(opened, pairs, threads)) == [INT8, ORT, OPENCV]
    choose(opened, pairs, threads, tune=None)
    assert measured.times == 2


def test_a_bundle_that_was_made_again_is_measured_again(opened, measured):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    for bundle in (opened, opened._replace(id="0" * 64)):
        choose(bundle, candidates(bundle), tune=None)
    assert measured.times == 2


def test_several_devices_share_one_file_of_limited_size(opened, measured, monkeypatch, file):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    facts = memory.machine_facts()
    for cores in range(1, 40):
        monkeypatch.setattr(memory, "machine_facts", lambda cores=cores: dict(facts, cores=cores))
        choose(opened, candidates(opened), tune=None)
    devices = [entry["device"]["cores"] for entry in json.loads(file.read_text())["devices"]]
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
    assert choose(opened, pairs).pairs == pairs
    measured(int8=9.0, ort=7.0, opencv=5.0)
    choose(opened, pairs, tune=None)
    assert caplog.text.count(f"earlier measurements in {file} cannot be read") == 1
    caplog.clear()
    assert names(choose(opened, pairs))[0] == OPENCV
    assert caplog.text == ""


def test_a_file_of_an_earlier_version_is_replaced_without_a_word(opened, measured, file, caplog):
    file.parent.mkdir(parents=True)
    old = {"device": {"machine": "x86_64", "threads": None, "backends": {}}, "latency_ms": {INT8: 1.0}}
    file.write_text(json.dumps({"devices": [old]}))
    measured(int8=9.0, ort=7.0, opencv=5.0)
    assert names(choose(opened, candidates(opened), tune=None))[0] == OPENCV
    assert caplog.text == ""


def test_a_cache_that_cannot_be_written_is_said_once_and_each_start_measures(
    opened, measured, monkeypatch, tmp_path, caplog
):
    (tmp_path / "taken").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    measured(int8=9.0, ort=7.0, opencv=5.0)
    for times in (1, 2):
        assert names(choose(opened, candidates(opened), tune=None))[0] == OPENCV
        assert measured.times == times
        assert caplog.text.count("WARNING") == caplog.text.count("cannot be stored") == times
        assert "the next start measures again" in caplog.text


def test_without_a_name_for_the_cache_it_is_in_the_users_home(opened, measured, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    measured(int8=9.0, ort=7.0, opencv=5.0)
    choose(opened, candidates(opened), tune=None)
    assert (tmp_path / ".cache" / "edgeclf" / "tuning" / f"{opened.id}.json").is_file()


def test_what_killed_the_measuring_process_is_never_opened(opened, measured, caplog):
    measured(ort=7.0, opencv=5.0, crashed=["int8"])
    assert names(choose(opened, candidates(opened), tune=None)) == [OPENCV, ORT]
    assert f"{INT8} is not used here: it failed" in caplog.text
    assert names(choose(opened, candidates(opened))) == [OPENCV, ORT]
    measured(crashed=["ort", "opencv"])
    with pytest.raises(BackendError, match="no model can be used on this machine; measure again with --tune"):
        choose(opened, candidates(opened, "fp32"), tune=True)


def test_a_measurement_of_which_nothing_came_is_not_remembered(opened, measured, file):
    measured()
    assert choose(opened, candidates(opened), tune=None).pairs == candidates(opened)
    assert not file.exists()


def test_a_start_that_waited_for_another_one_uses_its_figures(opened, measured, monkeypatch):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    real = choice.one_at_a_time

    def other_first(bundle, wait_s):
        monkeypatch.setattr(choice, "one_at_a_time", real)
        choose(bundle, candidates(bundle), tune=None)
        return real(bundle, wait_s)

    monkeypatch.setattr(choice, "one_at_a_time", other_first)
    assert names(choose(opened, candidates(opened), tune=None))[0] == OPENCV
    assert measured.times == 1


def test_only_one_process_measures_at_a_time(opened):
    with one_at_a_time(opened, 1.0):
        held = memory.lock
        with pytest.raises(BlockingIOError):
            held(memory._path(opened).rsplit("/", 1)[0])
        with one_at_a_time(opened, 0.2):
            pass  # it does not wait forever


def test_measurements_are_logged(opened, measured, caplog):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    with caplog.at_level(logging.INFO):
        choose(opened, candidates(opened), tune=None)
    assert f"'{INT8}': 9.0" in caplog.text


def test_measurements_are_shown_with_reasons_and_earlier_measurements(opened, measured):
    shown = []
    measured(int8=4.5, ort=9.25)
    for _ in range(2):
        choose(opened, candidates(opened), tune=True, show=shown.append)
    first, second = (str(report).splitlines() for report in shown)
    assert first[0].startswith("milliseconds of an inference, fastest first, measured in 0.")
    assert first[1:] == [
        "int8-cpu on onnxruntime     4.500",
        "fp32 on onnxruntime         9.250",
        "fp32 on opencv                  -  it failed",
    ]
    assert second[1].endswith("4.500  (earlier: 4.500)")
    assert second[-1].startswith("(earlier: measured on 20")
    assert shown[0].line.startswith("measured 2 of 3 candidates in 0.")
    assert shown[0].line.endswith(f" s: {INT8}: 4.5 ms")


def test_a_busy_machine_is_a_reason_to_measure_again(opened, monkeypatch):
    shown = []
    for others in (0.19, 0.52):
        figures = Figures({INT8: 4.0, ORT: 9.0, OPENCV: 9.0}, {}, others=others)
        monkeypatch.setattr(parent, "measure", lambda *_, figures=figures: figures)
        choose(opened, candidates(opened), tune=True, show=shown.append)
    assert "other programs" not in shown[0].line + str(shown[0])
    assert "(other programs took 52% of the processors: measure again with --tune" in shown[1].line
    assert "\n(other programs took 52%" in str(shown[1])


def test_a_film_has_figures_of_its_own(opened, measured):
    measured(int8=9.0, ort=7.0, opencv=5.0)
    pairs = candidates(opened)
    for at_once in (1, 2, 1, 2):
        choose(opened, pairs, at_once=at_once, tune=None)
    assert measured.times == 2


@pytest.mark.parametrize(("one", "two", "at_once"), [(5.0, 9.0, 1), (9.0, 5.0, 2)])
def test_frames_of_a_film_are_inferred_at_once_only_if_that_is_faster(opened, monkeypatch, one, two, at_once):
    figures = Figures({ORT: one, f"{ORT}, 2 at once": two}, {})
    monkeypatch.setattr(parent, "measure", lambda *_: figures)
    with Classifier.open(opened, "fp32", "onnxruntime", at_once=2, tune=None) as classifier:
        assert classifier.at_once == at_once


def test_the_number_of_threads_is_the_fastest_that_was_measured(opened, monkeypatch):
    monkeypatch.setattr(candidate, "_other_threads", lambda: [3])
    monkeypatch.setattr(parent, "measure", lambda *_: Figures({ORT: 9.0, f"{ORT}, 3 threads": 5.0}, {}))
    found = choose(opened, candidates(opened, "fp32", "onnxruntime"), tune=None)
    assert found.ways == {ORT: (3, 1)}
    threads = []
    real = selection.open_runner
    monkeypatch.setattr(selection, "open_runner", lambda *given: threads.append(given[2]) or real(*given))
    Classifier.open(opened, "fp32", "onnxruntime").close()
    assert threads == [3]


def test_what_is_remembered_can_be_told(opened, measured):
    assert remembered(opened) == {}
    measured(int8=9.0, ort=7.0, opencv=5.0)
    choose(opened, candidates(opened), tune=None)
    found = remembered(opened)
    assert list(found) == ["camera"]
    assert found["camera"].startswith(f"{OPENCV}: 5 ms, measured on 20")


def test_measurements_in_another_power_mode_are_not_used_and_the_log_says_so(opened, measured, monkeypatch, caplog):
    facts = dict(memory.machine_facts(), power_mode="5W (mode 1)")
    monkeypatch.setattr(memory, "machine_facts", lambda: facts)
    measured(int8=9.0, ort=7.0, opencv=5.0)
    pairs = candidates(opened)
    choose(opened, pairs, tune=True)
    facts["power_mode"] = "MAXN (mode 0)"
    assert choose(opened, pairs).pairs == pairs
    assert "measurements in power mode 5W (mode 1) are not used in MAXN (mode 0)" in caplog.text
    caplog.clear()
    facts["processor"] = "another"
    assert choose(opened, pairs).pairs == pairs
    assert caplog.text == ""
