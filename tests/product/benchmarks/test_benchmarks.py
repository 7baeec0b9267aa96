"""The benchmarks' own parts: turns, verdicts, pictures and summaries, on small real figures."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SPEED = BENCHMARKS / "speed"
sys.path[:0] = [str(BENCHMARKS / name) for name in ("accuracy", "figures", "speed")]

import accuracy  # noqa: E402
import compare  # noqa: E402
import frame_contenders  # noqa: E402
import loadgen  # noqa: E402
import plot  # noqa: E402
import rounds  # noqa: E402

SCRIPTS = sorted(
    path.relative_to(BENCHMARKS).as_posix()
    for path in BENCHMARKS.glob("*/*.py")
    if path.parent.name not in ("reliability", "device_guide") and "__main__" in path.read_text(encoding="utf-8")
)


def bench(script, *arguments, check=True):
    """Run one of the scripts; returns the finished process."""
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=check)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_readme_names_every_script_and_each_says_how_it_measures(script):
    assert f"]({script})" in (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert f"python3 benchmarks/{script}" in (BENCHMARKS / script).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "script", sorted(path.relative_to(BENCHMARKS).as_posix() for path in BENCHMARKS.glob("*/*.py"))
)
def test_what_a_script_imports_of_another_is_in_its_folder_or_one_that_it_names(script):
    path, folders = BENCHMARKS / script, {one.stem: one.parent for one in BENCHMARKS.glob("*/*.py")}
    text = path.read_text(encoding="utf-8")
    nodes = ast.walk(ast.parse(text))
    for name in [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module in folders]:
        folder = folders[name]
        assert folder == path.parent or f'parents[1] / "{folder.name}"' in text, name


def test_every_command_of_the_devices_page_has_a_case_and_every_case_its_words():
    code = (
        "import device_page; print(*(row['command'] for row in device_page.drift(device_page.PAGE.read_text('utf-8'))))"
    )
    folder = BENCHMARKS / "device_guide"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=folder, text=True) == "\n"


@pytest.fixture(scope="module")
def latency(run, tmp_path_factory):
    """The JSON of latency.py with two cheap contenders and one that cannot run here."""
    names = ["edgeclf int8-cpu", "ONNX Runtime FP32", "ONNX Runtime CUDA"]
    # On a machine that runs tests, every turn is disturbed, and would be taken again for a minute.
    short = ["--rounds", "5", "--seconds", "0.05", "--threads", "1", "--patience", "0", "--json"]
    path = tmp_path_factory.mktemp("figures") / "latency.json"
    path.write_text(bench("speed/latency.py", run, "--contenders", *names, *short).stdout, encoding="utf-8")
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
    # Without VNNI, 8-bit products saturate.
    assert 0 < rows["edgeclf int8-cpu"]["off"] < 5


@pytest.mark.slow
def test_figures_become_a_picture(latency, tmp_path):
    bench("figures/plot.py", "latency", latency, tmp_path / "latency.png")
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "file"), [("latency", "solar.json"), ("latency", "pipeline.json"), ("pareto", "accuracy.json")]
)
def test_the_reference_figures_become_pictures(kind, file, tmp_path):
    report = json.loads((BENCHMARKS / "reference" / file).read_text())
    plot.draw(kind, report, tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_bundles_own_bench_becomes_a_picture_of_its_stages(bundle, tmp_path):
    command = [sys.executable, "-m", "edgeclf_runtime", "bench", str(bundle), "--repeat", "6", "--json"]
    report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    plot.draw("stages", report, tmp_path / "it.png")
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")


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


def test_rounds_that_could_tell_nothing_of_so_many_rows_are_refused():
    reports = [figures(level, rounds=6) for level in (1.0, 2.0)]
    assert {each.verdict for each in compare.compare(*reports, None, 0.05, 0.01)} == {compare.SLOWER}
    for report in reports:
        report["rows"] = {f"{name} {number}": row for number in range(6) for name, row in report["rows"].items()}
    with pytest.raises(compare.NotComparableError, match=r"6 and 6 rounds, too few .*; 7 or more of each"):
        compare.compare(*reports, None, 0.05, 0.01)


@pytest.mark.slow
def test_the_exit_code_is_3_where_something_became_slower(tmp_path):
    for name, growth in (("old", 1.0), ("new", 1.5)):
        (tmp_path / f"{name}.json").write_text(json.dumps(figures(1.0, growth)))
    paths = tmp_path / "old.json", tmp_path / "new.json"
    assert bench("figures/compare.py", *paths, check=False).returncode == 3
    assert bench("figures/compare.py", *reversed(paths), check=False).returncode == 0
    (tmp_path / "new.json").write_text("{}")
    refused = bench("figures/compare.py", *paths, check=False)
    assert refused.returncode == 1
    assert "holds no samples" in refused.stderr


def test_a_bundles_own_bench_can_be_compared():
    report = {"samples_ms": {"fp32": list(range(1, 101))}, "frame_size": [1280, 720]}
    assert len(compare.medians(report)["fp32"]) == 10
    (same,) = compare.compare(report, report, None, 0.05, 0.01)
    assert same.verdict == compare.SAME


def test_ratios_of_frame_to_label_are_compared_as_they_were_recorded():
    def measured(ratio):
        ratios = np.random.default_rng(0).normal(ratio, 0.02, 8)
        return {"benchmark": "ratios", "rows": {"fp32": {"ratios": ratios.tolist()}}}

    for new, verdict in ((1.2, compare.SAME), (1.5, compare.SLOWER), (1.0, compare.FASTER)):
        (row,) = compare.compare(measured(1.2), measured(new), None, 0.1, 0.01)
        assert row.verdict == verdict


def test_an_accuracy_is_given_with_wilsons_interval():
    # Brown, Cai, DasGupta (2001): 0 of 10 gives 0 to 0.2775.
    assert accuracy.wilson(0, 10) == [0.0, pytest.approx(0.2775, abs=1e-3)]


def test_loadgens_summary_is_read_with_its_verdict():
    text = """
SUT name : PySUT
Scenario : SingleStream
Mode     : PerformanceOnly
90.0th percentile latency (ns) : 4812345
Result is : INVALID
  Min duration satisfied : NO
  Min queries satisfied : Yes
  Early stopping satisfied: Yes
50.00 percentile latency (ns)   : 4012345
"""
    row = loadgen.read_summary(text)
    assert (row["verdict"], row["p90_ms"], row["p50_ms"]) == ("INVALID", 4.812, 4.012)
    assert row["checks"]["Min duration satisfied"] == "NO"


def test_a_model_of_others_takes_pixels_and_gives_the_same_confidences(tmp_path):
    import onnx
    import onnxruntime
    import torch

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(96, 5))
    theirs = torch.nn.Sequential(network, torch.nn.Softmax(1))
    path = tmp_path / "theirs.onnx"
    torch.onnx.export(theirs, (torch.zeros(1, 3, 8, 6),), str(path), opset_version=13, dynamo=False)
    model = onnx.load(path)
    frame_contenders.take_pixels(model)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 6, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": pixels})
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(pixels.transpose(0, 3, 1, 2) / 255)).numpy()
    assert np.abs(np.exp(logits) / np.exp(logits).sum() - expected).max() < 1e-5


def test_a_contender_that_dies_says_why_and_is_left_out():
    with rounds.Contender([sys.executable, "-c", "raise SystemExit('no such board')"], 1) as contender:
        assert "no such board" in contender.reason
        assert rounds.take_turns({"it": contender}, 1, {}) == {}


def test_between_its_turns_a_contender_stands_still():
    program = "import rounds; rounds.serve(lambda: (lambda: {'answer': 42}, {'name': 'it'}))"
    with rounds.Contender(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SPEED)!r}); {program}"], 1
    ) as it:
        state = Path(f"/proc/{it._process.pid}/stat")
        assert it.facts["name"] == "it"
        assert state.read_text().split()[2] == "T"
        assert it.turn({})["answer"] == 42
        assert state.read_text().split()[2] == "T"


def test_an_attack_that_is_too_short_for_a_newcomer_is_refused():
    done = bench("reliability/live.py", "--seconds", "1", check=False)
    assert done.returncode == 2
    assert "--seconds 1 is too short: the attackers connect for 1 s" in done.stderr
