"""The benchmarks' own parts: turns, verdicts, pictures and summaries, on small real figures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import compare  # noqa: E402
import plot  # noqa: E402
import rounds  # noqa: E402


def bench(script, *arguments, check=True):
    """Run one of the scripts; returns the finished process."""
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def latency(run, tmp_path_factory):
    """The JSON of latency.py with two cheap contenders and one that cannot run here."""
    names = ["edgeclf int8-cpu", "ONNX Runtime FP32", "ONNX Runtime CUDA"]
    short = ["--rounds", "5", "--seconds", "0.05", "--threads", "1", "--json"]
    path = tmp_path_factory.mktemp("figures") / "latency.json"
    path.write_text(bench("latency.py", run, "--contenders", *names, *short).stdout, encoding="utf-8")
    return path


def test_latency_has_a_row_for_each_that_runs_and_a_reason_for_each_that_cannot(latency):
    report = json.loads(latency.read_text())
    row = report["rows"]["ONNX Runtime FP32"]
    assert 0 < row["p50"] <= row["p90"] <= row["p99"]
    assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
    assert len(row["rounds_ms"]) == 5
    assert report["rows"]["edgeclf int8-cpu"]["ratio"]["median"] == 1
    assert "CUDAExecutionProvider" in report["cannot_run"]["ONNX Runtime CUDA"]
    assert report["machine"]["cores"]


def test_int8_and_fp32_compute_the_same_network(latency):
    rows = json.loads(latency.read_text())["rows"]
    assert rows["ONNX Runtime FP32"]["off"] == 0
    assert 0 < rows["edgeclf int8-cpu"]["off"] < 1


@pytest.mark.parametrize("kind", ["latency"])
def test_figures_become_a_picture(latency, tmp_path, kind):
    plot.draw(kind, json.loads(latency.read_text()), tmp_path / "latency.png")
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


def figures(scale, growth=1.0, rounds=10):
    """Return a report of two rows on a machine of some speed, one of which grew; the noise is 2 %."""
    random = np.random.default_rng(int(scale * 100))
    times = {"ours": 5.0 * growth, "theirs": 9.0}
    rows = {
        name: {"rounds_ms": (scale * ms * random.normal(1, 0.02, (rounds, 20))).tolist()} for name, ms in times.items()
    }
    return {"benchmark": "latency", "batch": 1, "rows": rows, "machine": {"cores": 2}}


@pytest.mark.parametrize(("growth", "verdict"), [(1.2, compare.SLOWER), (0.8, compare.FASTER), (1.0, compare.SAME)])
def test_a_row_is_judged_by_its_growth(growth, verdict):
    verdicts = compare.compare(figures(1.0), figures(1.01, growth), None, 0.05, 0.01)
    assert {each.name: each.verdict for each in verdicts} == {"ours": verdict, "theirs": compare.SAME}


def test_a_growth_that_is_real_and_too_small_to_matter_is_none():
    (ours, _) = compare.compare(figures(1.0), figures(1.01, 1.03), None, 0.05, 0.01)
    assert ours.p < 0.001
    assert ours.verdict == compare.SAME


def test_a_machine_that_is_slower_altogether_is_no_regression_when_rounds_are_divided_by_another_row():
    (alone, _) = compare.compare(figures(1.0), figures(1.5), None, 0.05, 0.01)
    (divided,) = compare.compare(figures(1.0), figures(1.5), "theirs", 0.05, 0.01)
    assert (alone.verdict, divided.verdict) == (compare.SLOWER, compare.SAME)


def test_what_was_measured_in_another_way_is_not_compared():
    with pytest.raises(compare.NotComparableError, match="batch was 1 and is 8"):
        compare.compare(figures(1.0), {**figures(1.0), "batch": 8}, None, 0.05, 0.01)


def test_too_few_rounds_are_no_verdict():
    with pytest.raises(compare.NotComparableError, match="10 and 3 rounds"):
        compare.compare(figures(1.0), figures(1.0, rounds=3), None, 0.05, 0.01)


def test_the_exit_code_is_3_where_something_became_slower(tmp_path):
    for name, growth in (("old", 1.0), ("new", 1.5)):
        (tmp_path / f"{name}.json").write_text(json.dumps(figures(1.0, growth)))
    paths = tmp_path / "old.json", tmp_path / "new.json"
    assert bench("compare.py", *paths, check=False).returncode == 3
    assert bench("compare.py", *reversed(paths), check=False).returncode == 0
    (tmp_path / "new.json").write_text("{}")
    refused = bench("compare.py", *paths, check=False)
    assert refused.returncode == 1
    assert "holds no samples" in refused.stderr


def test_a_bundles_own_bench_can_be_compared():
    report = {"samples_ms": {"fp32": list(range(1, 101))}, "frame_size": [1280, 720]}
    assert len(compare.medians(report)["fp32"]) == 10
    (same,) = compare.compare(report, report, None, 0.05, 0.01)
    assert same.verdict == compare.SAME


def test_a_contender_that_dies_says_why_and_is_left_out():
    with rounds.Contender([sys.executable, "-c", "raise SystemExit('no such board')"], 1) as contender:
        assert "no such board" in contender.reason
        assert rounds.take_turns({"it": contender}, 1, {}) == {}


def test_between_its_turns_a_contender_stands_still():
    program = "import rounds; rounds.serve(lambda: (lambda: {'answer': 42}, {'name': 'it'}))"
    with rounds.Contender(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); {program}"], 1
    ) as it:
        state = Path(f"/proc/{it._process.pid}/stat")
        assert it.facts["name"] == "it"
        assert state.read_text().split()[2] == "T"
        assert it.turn({})["answer"] == 42
        assert state.read_text().split()[2] == "T"
