"""What the commands do about measuring; the figures are given, since no test can foresee them."""

import json

import pytest

from edgeclf_runtime.classify.tuning import choice, parent
from edgeclf_runtime.classify.tuning.memory import Figures

RUN = ("run", "--source", "test://", "--frames", "1", "--model", "fp32")
BEST = "fp32 on opencv"


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The candidates of each measurement, in which OpenCV is the fastest."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(choice.NO_TUNE, raising=False)
    calls = []

    def measure(bundle, found, purpose, limits):
        names = [one.name for one in found]
        calls.append(names)
        return Figures({name: 2.0 if name == BEST else 9.0 for name in names}, {})

    monkeypatch.setattr(parent, "measure", measure)
    return calls


def test_a_first_run_says_in_one_line_what_it_measured_and_the_next_says_nothing(cli, measured):
    code, _, err = cli(*RUN)
    assert (code, len(measured)) == (0, 1)
    line, chosen = err.splitlines()[:2]
    assert line.startswith(f"measured {len(measured[0])} candidates in 0.")
    assert line.endswith(f" s: {BEST}: 2 ms")
    assert chosen == BEST
    code, _, err = cli(*RUN)
    assert (code, len(measured), err.splitlines()[0]) == (0, 1, BEST)


def test_with_json_a_first_run_measures_silently(cli, measured):
    code, out, err = cli(*RUN, "--json")
    assert (code, len(measured), json.loads(out)["backend"]) == (0, 1, "opencv")
    assert "measured" not in err


def test_no_tune_and_the_environment_variable_measure_nothing(cli, measured, monkeypatch):
    assert cli(*RUN, "--no-tune")[0] == 0
    monkeypatch.setenv(choice.NO_TUNE, "1")
    assert cli(*RUN)[0] == 0
    assert measured == []


def test_tune_measures_again_and_shows_a_table(cli, measured):
    for _ in range(2):
        code, _, err = cli(*RUN, "--tune")
        assert code == 0
    assert len(measured) == 2
    assert f"\n  {BEST} " in err
    assert "(earlier: measured on 20" in err


def test_a_source_that_is_not_there_is_reported_before_anything_is_measured(cli, measured):
    code, _, err = cli("run", "--source", "nowhere.mp4")
    assert (code, measured) == (1, [])
    assert "no such source" in err


def test_classify_uses_what_is_remembered_and_measures_nothing(cli, bundle, measured):
    image = bundle / "golden" / "000.png"
    assert "opencv" not in json.loads(cli("classify", image, "--model", "fp32", "--json")[1])["backend"]
    assert measured == []
    cli(*RUN)
    assert json.loads(cli("classify", image, "--model", "fp32", "--json")[1])["backend"] == "opencv"


@pytest.mark.slow
def test_bench_measures_each_model_on_its_fastest_backend(cli, measured):
    code, out, _ = cli("bench", "--repeat", "1", "--warmup", "1", "--json")
    assert (code, len(measured), json.loads(out)["backends"]["fp32"]) == (0, 1, "opencv")
    code, out, _ = cli("bench", "--repeat", "1", "--warmup", "1", "--no-tune", "--threads", "1", "--json")
    assert (code, len(measured), json.loads(out)["backends"]["fp32"]) == (0, 1, "onnxruntime")


def test_info_shows_the_fastest(cli, measured):
    assert "fastest here" not in cli("info")[1]
    cli("run", "--source", "test://", "--frames", "1")
    assert f"\nfastest here   camera: {BEST}: 2 ms, measured on 20" in cli("info")[1].replace("\n" + " " * 15, " ")
    assert json.loads(cli("info", "--json")[1])["fastest_here"]["camera"].startswith(BEST)
