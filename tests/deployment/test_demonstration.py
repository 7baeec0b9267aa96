"""The demo itself, by its command, on all 2,624 solar cells, at a size that takes half as long as its own.

benchmarks/speed/demo.py measures it as it is.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeclf.data.datasets import load_dataset
from edgeclf.errors import DataError
from tests.product.test_network import ALLOWED, observe_host
from tests.support import netns

SMALLER = """
from edgeclf import cli
from edgeclf.deployment import demonstration

demonstration.IMAGE_SIZE = 160
cli.app()
"""
DEMO = ["-c", SMALLER, "demo"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What was seen of the demo, where a network namespace can be made, and its output folder."""
    path = tmp_path_factory.mktemp("demo") / "out"
    command = [*DEMO, "--output", str(path), "--json"]
    if netns.reason_to_skip():
        seen = None
        process = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        status, out, err = process.returncode, process.stdout, process.stderr
    else:
        seen = observe_host(command, tmp_path_factory.mktemp("seen"), timeout_s=3000)
        status, out, err = seen.status, seen.out, seen.err
    assert status == 0, err
    assert json.loads(out) == json.loads((path / "summary.json").read_text())
    return seen, path


@pytest.fixture(scope="module")
def output(demo):
    return demo[1]


@pytest.fixture(scope="module")
def summary(output):
    return json.loads((output / "summary.json").read_text())


@pytest.mark.slow
def test_its_folder_is_no_data_set(output):
    with pytest.raises(DataError, match=r"is an output of edgeclf \(it has summary\.json\)"):
        load_dataset(output)


@pytest.mark.slow
def test_accuracy_beats_the_published_svm_and_int8_keeps_it(summary):
    assert summary["test_images"] == 655
    assert summary["accuracy_fp32"] >= 0.83  # Deitsch et al. 2019: 82.44 % by a linear SVM
    assert summary["accuracy_fp32"] - summary["accuracy_int8"] <= 0.01
    assert summary["macro_f1_fp32"] - summary["macro_f1_int8"] <= 0.02
    assert summary["size_int8"] < 0.3 * summary["size_fp32"]


@pytest.mark.slow
def test_memory_stays_below_4_gigabytes(summary):
    assert 300 < summary["peak_memory_mb"] < 4000


@pytest.mark.slow
def test_every_step_was_timed(summary):
    assert list(summary["seconds"]) == [
        "check",
        "train",
        "export",
        "evaluate",
        "quantize",
        "evaluate int8",
        "bundle",
        "self-test",
        "video",
        "latency",
    ]


@pytest.mark.slow
def test_the_bundle_watched_the_video_as_a_camera(summary):
    frames = summary["frames"]
    assert frames["played"] == 300
    assert frames["classified"] + frames["dropped"] == 300
    assert frames["classified"] > 5  # of a machine that is busy
    assert frames["right"] > 0.7


@pytest.mark.slow
def test_latency_is_given_for_each_model(summary):
    for model in ("fp32", "int8-cpu"):
        latency = summary["latency_ms"][model]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]


@pytest.mark.slow
def test_the_pictures_are_pictures(output):
    from edgeclf_runtime.images.read import read_image

    for name in ("confusion.png", "latency.png"):
        assert read_image(output / name).shape[0] > 400


@pytest.mark.slow
def test_a_second_demo_does_not_overwrite_the_first(output):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    command = [sys.executable, *DEMO, "--output", str(output)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("error: ")
    assert "--overwrite" in process.stderr
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


@pytest.mark.slow
def test_nothing_is_left_beside_the_output(output):
    assert sorted(path.name for path in Path(output.parent).iterdir()) == ["out"]


@pytest.mark.slow
def test_it_sends_nothing(demo):
    seen = demo[0]
    if seen is None:
        pytest.skip(netns.reason_to_skip())
    netns.assert_quiet(seen, allowed=ALLOWED)
