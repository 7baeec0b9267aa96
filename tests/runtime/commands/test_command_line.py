"""Commands about a bundle: info, selftest and bench, and the installed runtime."""

import json
import os
import subprocess
import sys

import pytest

import edgeclf_runtime
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.commands.info import BundleInfo
from tests.support.sealing import NONE_ALLOWED, flip_byte, reseal
from tests.support.starting import output_of


def test_a_bundle_can_be_an_argument_too(bundle):
    command = [sys.executable, "-m", "edgeclf_runtime", "info", str(bundle), "--json"]
    assert json.loads(subprocess.check_output(command).decode("utf-8"))["verified_files"] > 10


@pytest.mark.parametrize("confidence", [None, {"coverage": 1.0, "precision": 1.0, "images": 30}])
def test_a_models_lines_fit_80_columns_whatever_was_measured(bundle, confidence):
    opened = open_bundle(bundle)
    metrics = dict({} if confidence is None else {"confidence": confidence}, accuracy=1.0, images=100000)
    model = opened.models[0]._replace(name="int8-tensorrt", temperature=0.12345, threshold=0.123456, metrics=metrics)
    lines = list(BundleInfo(opened)._lines(model))
    assert lines[2].endswith("threshold 0.1235" + ("" if confidence is None else ": keeps 100.0%, 100.0% right"))
    assert max(map(len, lines)) <= 80


def test_what_is_fastest_fits_80_columns(bundle):
    fastest = {"camera": "int8-tensorrt on tensorrt-rtx, 16 threads: 12.43 ms, measured on 2026-11-30T15:28:25Z"}
    lines = str(BundleInfo(open_bundle(bundle), fastest)).splitlines()
    assert lines[-2].startswith("fastest here   camera: int8-tensorrt on ")
    assert max(map(len, lines)) <= 80


def test_info_shows_what_the_bundle_holds(cli, bundle):
    code, out, _ = cli("info")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert code == 0
    for text in [manifest["name"], "every size and sha256 as in the manifest"] + manifest["labels"]:
        assert text in out
    assert max(map(len, out.splitlines())) <= 80
    for model in manifest["models"]:
        shares = model["metrics"]["confidence"]
        assert (
            "threshold {:.4f}: keeps {:.1%}, {:.1%} right".format(
                model["threshold"], shares["coverage"], shares["precision"]
            )
            in out
        )
    facts = json.loads(cli("info", "--json")[1])
    assert [model["name"] for model in facts["models"]] == [model["name"] for model in manifest["models"]]
    assert facts["models"][0]["size"] == (bundle / facts["models"][0]["file"]).stat().st_size


@pytest.mark.slow
def test_selftest_passes_with_0(cli):
    code, out, err = cli("selftest", "--json", "--threads", "1")
    assert (code, err) == (0, "")
    assert json.loads(out)["passed"] is True


@pytest.mark.slow
def test_selftest_fails_with_3(cli, copied):
    reseal(copied, lambda manifest: [model.update(tolerances=NONE_ALLOWED) for model in manifest["models"]])
    code, out, err = cli("selftest", bundle=copied)
    assert code == 3
    assert out.startswith("FAIL: ")
    assert err.startswith("error: a model failed its golden images on this machine")


def test_selftest_without_a_backend_is_an_error(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, err = cli("selftest", "--backend", "onnxruntime")
    assert code == 1
    assert "-m pip install onnxruntime" in out
    assert "error: no model runs on this machine" in err


@pytest.mark.slow
def test_bench_prints_a_row_for_each_stage(cli):
    code, out, _ = cli("bench", "--repeat", "3", "--warmup", "1", "--threads", "1")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[:5]] == [
        "stage",
        "preprocess",
        "inference",
        "postprocess",
        "total",
    ]
    assert "machine" in json.loads(cli("bench", "--repeat", "3", "--json")[1])


def test_a_damaged_bundle_is_a_one_line_error(cli, copied):
    flip_byte(copied / "golden" / "000.png", 50)
    for arguments in (["info"], ["selftest"], ["classify", "a.png"], ["run", "--source", "a.avi"], ["bench"]):
        code, out, err = cli(*arguments, bundle=copied)
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert err.endswith(
            "golden/000.png was changed (its sha256 differs from the manifest's); "
            "copy the bundle again from where it was made\n"
        )


def test_a_name_that_is_not_there_is_an_error_with_those_that_are(cli, photos):
    code, _, err = cli("classify", "--model", "fp8", photos / "plain.png")
    assert (code, "it holds" in err) == (1, True)
    code, _, err = cli("classify", "--backend", "abacus", photos / "plain.png")
    assert (code, "use --backend onnxruntime" in err) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["json", "argparse", "numpy", "logging"])
def test_the_installed_runtime_imports_nothing_from_the_working_folder(bundle, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('planted')")
    home = os.path.dirname(os.path.dirname(edgeclf_runtime.__file__))
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeclf_runtime", "selftest", str(bundle), "--model", "fp32"],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    code, _, err = output_of(process)
    assert (code, "planted" in err) == (0, False), err
