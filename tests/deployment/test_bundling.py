import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer

import edgeclf
from edgeclf import BundleOptions, cli
from edgeclf.deployment import bundle_notes, bundling
from edgeclf.errors import DataError, OptionError, OutputError
from edgeclf.evaluation.confidence_threshold import Confidence
from edgeclf.quantization.speed.fastest import can_time
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.golden import read_golden
from edgeclf_runtime.commands.info import info
from edgeclf_runtime.commands.selftest import selftest
from tests.support.foreign import SETTINGS


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_holds_models_runtime_golden_images_and_nothing_else(bundle):
    names = {name for name in contents(bundle) if "__pycache__" not in name}
    assert {name for name in names if not name.startswith(("edgeclf_runtime/", "golden/"))} == {
        "__main__.py",
        "manifest.json",
        "manifest.sha256",
        "model.fp32.onnx",
        "model.fp16.onnx",
        "model.int8-arm.onnx",
        "model.int8-cpu.onnx",
        "model.int8-fp16.onnx",
        "model.int8-tensorrt.onnx",
        "calibration.cache",
        "health.json",
        "known_images.npz",
    }
    assert "golden/expected.json" in names


def test_every_file_is_in_the_manifest(bundle):
    assert set(open_bundle(bundle).files) == set(contents(bundle)) - {"manifest.json", "manifest.sha256"}


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(run, bundle, tmp_path):
    report = edgeclf.bundle(run, tmp_path / bundle.name, BundleOptions(golden=4))
    assert contents(tmp_path / bundle.name) == contents(bundle)
    assert report.id == open_bundle(bundle).id


@pytest.mark.slow
def test_training_again_gives_the_same_bundle(digits, tmp_path, monkeypatch):
    # A file that was slower than FP32 goes behind it, and which one was differs between two measurements.
    monkeypatch.setattr(bundling, "_slower", lambda run, models: [])

    def make(folder):
        options = edgeclf.TrainOptions(backbone="test_efficientnet", weights="none", image_size=64, epochs=1)
        edgeclf.train(digits, folder / "run", options)
        edgeclf.export(folder / "run")
        edgeclf.quantize(folder / "run", edgeclf.QuantizeOptions(size=60, max_drop=1, method="minmax", form="standard"))
        return edgeclf.bundle(folder / "run", folder / "digits.edge").id

    assert make(tmp_path / "first") == make(tmp_path / "again")


def test_the_manifest_holds_no_path_and_no_time(bundle):
    text = (bundle / "manifest.json").read_text()
    assert not re.search(r'"(/|[A-Za-z]:)', text)
    assert str(Path.home()) not in text
    assert not [key for key in json.loads(text)["provenance"] if "time" in key or "date" in key]


def test_each_model_carries_what_the_host_measured(bundle):
    for model in open_bundle(bundle).models:
        assert model.metrics["split"] == "test"
        assert model.metrics["images"] == 45
        assert model.metrics["accuracy"] > 0.8


def test_the_float_model_runs_on_every_backend(bundle):
    assert open_bundle(bundle).model("fp32").backends == (
        "tensorrt",
        "tensorrt-rtx",
        "onnxruntime",
        "openvino",
        "opencv",
    )
    assert open_bundle(bundle).model("int8-cpu").backends == ("onnxruntime", "openvino")


def test_tensorrts_models_are_left_to_tensorrt(bundle):
    opened = open_bundle(bundle)
    typed = ("int8-fp16", "int8-tensorrt", "fp16")
    for name in typed:
        assert opened.model(name).backends == ("tensorrt", "tensorrt-rtx")
    assert opened.in_order("aarch64") == [opened.model(n) for n in (*typed, "fp32", "int8-arm")]
    assert opened.in_order("x86_64") == [opened.model(n) for n in (*typed, "int8-cpu", "fp32")]


@pytest.mark.slow
def test_openvinos_file_is_left_out_only_if_it_is_the_same_as_one_that_openvino_runs_too(run, tmp_path):
    options = BundleOptions(golden=1, targets=("x86-cpu",))
    report = edgeclf.bundle(run, tmp_path / "same.edge", options)
    assert (report.models, report.lacks) == (("int8-cpu", "fp32"), {})
    assert report.notes == ("int8-openvino is left out: int8-cpu is the same, and runs on its backends too",)
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    edgeclf.quantize(copy, flavors=("int8-openvino",), form="weighted", size=60, max_drop=0.2, overwrite=True)
    report = edgeclf.bundle(copy, tmp_path / "other.edge", options)
    assert report.models == ("int8-cpu", "int8-openvino", "fp32")
    assert not any("left out" in note for note in report.notes)  # this machine may compute a file slower than FP32


@pytest.mark.slow
def test_a_machine_without_tensorrt_passes_its_models_over_and_classifies(bundle, digits, monkeypatch, caplog):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with Classifier.open(bundle) as classifier:
        assert classifier.model == "fp32"
        assert classifier.classify(digits / "3" / "000.png").label == "3"
    assert len(caplog.records) <= 2
    # An Arm file's 8-bit products saturate on an x86 processor without VNNI.
    assert all(report.passed for report in selftest(bundle).reports if report.model != "int8-arm")


def test_golden_images_are_of_several_labels(bundle):
    golden = read_golden(open_bundle(bundle))
    best = [max(range(3), key=row.__getitem__) for row in golden["logits"]["fp32"]]
    assert len(set(best)) > 1


@pytest.mark.slow
def test_the_bundle_passes_its_own_self_test(bundle):
    report = selftest(bundle)
    assert report.passed
    assert {item.model for item in report.reports} == {"fp32", "int8-cpu"}


def test_the_bundle_runs_without_the_host_package(bundle, digits, tmp_path):
    image = next(digits.rglob("*.png"))
    code = f"import sys; sys.modules['edgeclf'] = None; sys.argv = ['x', 'classify', {str(image)!r}]; " + (
        f"import runpy; runpy.run_path({str(bundle)!r}, run_name='__main__')"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(str(image))


def test_a_run_that_was_not_quantized_gives_a_bundle_of_fp32_alone(run, tmp_path):
    made = ("model.int8*", "model.fp16.onnx", "calibration.cache")
    copy = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(*made)))
    assert edgeclf.bundle(copy, tmp_path / "small.edge").models == ("fp32",)


@pytest.mark.slow
def test_the_targets_decide_the_order(run, tmp_path):
    edgeclf.bundle(run, tmp_path / "arm.edge", BundleOptions(targets=("arm-cpu",)))
    opened = open_bundle(tmp_path / "arm.edge")
    assert opened.order["aarch64"] == ["fp32", "int8-arm"]
    assert "x86_64" not in opened.order
    assert not (tmp_path / "arm.edge" / "calibration.cache").exists()


class Thin(torch.nn.Module):
    """Tells red from blue beside depthwise convolutions and Tanh, each of which takes longer to round than to compute."""

    def __init__(self, channels=40, depth=6):
        super().__init__()
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(3, channels, 3, 2, 1)]
        for _ in range(depth):
            layers += [torch.nn.Conv2d(channels, channels, 3, padding=1, groups=channels), torch.nn.Tanh()]
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, pixels):
        colors = torch.stack([pixels[:, 2].mean((1, 2)), pixels[:, 0].mean((1, 2))], 1)
        return 8 * colors + 0.001 * self.layers(pixels).mean((2, 3))[:, :2]


@pytest.mark.slow
def test_a_file_that_really_is_slower_is_tried_after_fp32(colored_photos, tmp_path):
    edgeclf.import_model(Thin().eval(), tmp_path / "run", data=colored_photos, size="96", **SETTINGS)
    found = edgeclf.quantize(tmp_path / "run", flavors=("int8-cpu",), method="minmax", form="standard", size=40)
    if not found.files[0].slower:
        pytest.skip("this processor takes no longer with INT8")
    assert "int8-cpu: slower than fp32 on this machine" in str(found)
    report = edgeclf.bundle(tmp_path / "run", tmp_path / "thin.edge", golden=1)
    assert any(note.startswith("int8-cpu was slower than fp32") for note in report.notes)
    order = open_bundle(tmp_path / "thin.edge").order
    assert order["x86_64"] == ["fp32", "int8-cpu"]


def test_a_file_that_was_slower_than_fp32_is_tried_after_it(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    report = json.loads((copy / "quantization.json").read_text())
    for file in report["files"]:
        # As on a processor on which INT8 does not help; int8-arm was not timed on the machine that it is for.
        assert (file["fp32_ms"] is None) == (not can_time(file["name"]))
        file["fp32_ms"] = file["latency_ms"] / 1.2 if file["name"] == "int8-cpu" else None
    (copy / "quantization.json").write_text(json.dumps(report))
    report = edgeclf.bundle(copy, tmp_path / "slow.edge", golden=1)
    (note,) = [note for note in report.notes if "slower" in note]
    assert note.startswith("int8-cpu was slower than fp32 on the machine that quantized it (")
    order = open_bundle(tmp_path / "slow.edge").order
    assert order["x86_64"] == ["int8-fp16", "int8-tensorrt", "fp16", "fp32", "int8-cpu"]
    assert order["aarch64"][-2:] == ["fp32", "int8-arm"]
    with Classifier.open(tmp_path / "slow.edge") as classifier:
        assert classifier.model == "fp32"


def test_a_jetson_nano_is_given_nothing_that_it_cannot_run(run, tmp_path):
    report = edgeclf.bundle(run, tmp_path / "nano.edge", BundleOptions(targets=("jetson-nano",)))
    assert report.models == ("fp16", "fp32")


def test_a_name_without_edge_is_refused(run, tmp_path):
    with pytest.raises(OptionError, match=r"NAME\.edge was expected, such as .*solar\.edge"):
        edgeclf.bundle(run, tmp_path / "solar")


@pytest.fixture
def bare(run, tmp_path):
    """A copy of the run before export and quantize."""
    made = ("model.*.onnx", "calibration.cache", "quantization.*", "logits.npz")
    return Path(shutil.copytree(run, tmp_path / "my run", ignore=shutil.ignore_patterns(*made)))


@pytest.mark.slow
def test_a_run_without_an_exported_file_is_exported(bare, run, tmp_path):
    report = edgeclf.bundle(bare, tmp_path / "small.edge", BundleOptions(golden=1))
    assert report.models == ("fp32",)
    assert (bare / "model.fp32.onnx").read_bytes() == (run / "model.fp32.onnx").read_bytes()


@pytest.mark.slow
def test_what_each_target_lacks_is_said_with_the_command_that_makes_it(bare, run, tmp_path):
    for name in ("model.fp32.onnx", "model.fp16.onnx"):
        shutil.copy(run / name, bare)
    targets = ("jetson-orin", "jetson-nano", "x86-cpu")
    report = edgeclf.bundle(bare, tmp_path / "small.edge", BundleOptions(golden=1, targets=targets))
    assert report.lacks == {
        "jetson-orin": ("int8-fp16", "int8-tensorrt", "int8-arm"),
        "x86-cpu": ("int8-cpu", "int8-openvino"),
    }
    [orin, cpu] = report.notes
    assert orin.startswith("jetson-orin lacks int8-fp16, int8-tensorrt, int8-arm; make them with: edgeclf quantize ")
    program, name, *arguments = shlex.split(cpu.partition("make them with: ")[2])
    assert (program, name, arguments) == ("edgeclf", "quantize", [str(bare), "--target", "x86-cpu"])
    typer.main.get_command(cli.app).commands[name].make_context(name, arguments)
    assert cpu in str(report)


@pytest.mark.slow
def test_a_flavor_that_did_not_pass_is_not_asked_for_again(bare, run, tmp_path):
    shutil.copy(run / "model.fp32.onnx", bare)
    facts = json.loads((run / "quantization.json").read_text())
    lost = {"reason": "it lost too much", "conditions": {}}
    facts.update(files=[], failed=[{"name": name, **lost} for name in ("int8-cpu", "int8-openvino")])
    (bare / "quantization.json").write_text(json.dumps(facts))
    report = edgeclf.bundle(bare, tmp_path / "small.edge", BundleOptions(golden=1, targets=("x86-cpu",)))
    assert report.notes == (
        f"x86-cpu lacks int8-cpu, int8-openvino, which did not pass the accuracy gate; see {bare / 'quantization.html'}",
    )


@pytest.mark.slow
def test_files_made_from_another_fp32_file_are_left_out(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    facts = json.loads((copy / "quantization.json").read_text())
    (copy / "quantization.json").write_text(json.dumps({**facts, "sha256_fp32": "0" * 64}))
    report = edgeclf.bundle(copy, tmp_path / "small.edge", BundleOptions(golden=1, targets=("x86-gpu",)))
    assert report.models == ("fp32",)
    assert not (tmp_path / "small.edge" / "calibration.cache").exists()
    assert report.notes[0].endswith("--target x86-gpu --overwrite")


@pytest.mark.slow
def test_the_report_shows_what_each_model_rejects(run, tmp_path):
    report = edgeclf.bundle(run, tmp_path / "half.edge", BundleOptions(golden=1, targets=("x86-cpu",), coverage=0.5))
    for model in open_bundle(tmp_path / "half.edge").models:
        facts = report.facts[model.name]
        assert (facts.temperature, facts.threshold) == (model.temperature, model.threshold)
        assert facts.coverage == model.metrics["confidence"]["coverage"]
        [line] = [line for line in str(report).splitlines() if line.startswith(f"{model.name} ")]
        assert f"{facts.coverage:.1%}" in line.split()
    assert max(map(len, str(report).splitlines()[1:4])) <= 80
    shown = str(info(tmp_path / "half.edge"))
    assert f"threshold {report.facts['fp32'].threshold:.4f}: keeps {report.facts['fp32'].coverage:.1%}, " in shown


def test_a_precision_that_leaves_few_labels_is_said_in_one_sentence():
    little = Confidence(
        temperature=1.0, threshold=0.9, images=100, ece_before=0.1, ece_after=0.1, coverage=0.41, precision=0.9
    )
    found = {"fp32": little, "int8-cpu": replace(little, coverage=0.8)}
    [note] = bundle_notes.about_coverage(found, BundleOptions(precision=0.9))
    assert note.startswith("for a precision of 0.9 few images keep a label (41% with fp32); ")
    assert list(bundle_notes.about_coverage(found, BundleOptions(coverage=0.4))) == []


def test_a_taken_output_is_refused_before_anything_is_evaluated(run, bundle, monkeypatch):
    monkeypatch.delattr("edgeclf.deployment.bundling.EvaluationSet")
    with pytest.raises(OutputError, match="pass --overwrite"):
        edgeclf.bundle(run, bundle)


def test_a_folder_that_is_no_bundle_is_never_replaced(run, tmp_path):
    taken = tmp_path / "taken.edge"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="edgeclf did not create it"):
        edgeclf.bundle(run, taken, overwrite=True)
    assert (taken / "thesis.txt").read_text() == "years of work"


def test_options_out_of_range_are_refused():
    with pytest.raises(OptionError, match="no target toaster"):
        BundleOptions(targets=("toaster",))
    with pytest.raises(OptionError, match="golden is 0"):
        BundleOptions(golden=0)


@pytest.mark.slow
def test_each_model_has_a_threshold_of_its_own_for_the_precision_that_is_wanted(run, tmp_path):
    options = BundleOptions(targets=("x86-cpu",), coverage=0.5)
    edgeclf.bundle(run, tmp_path / "half.edge", options)
    models = open_bundle(tmp_path / "half.edge").models
    assert all(model.threshold > 0 for model in models)
    assert all(0.5 <= model.metrics["confidence"]["coverage"] < 0.7 for model in models)
    with pytest.raises(OptionError, match="give one of them"):
        BundleOptions(precision=0.9, coverage=0.9)


def test_a_run_whose_images_moved_is_bundled_from_where_they_are_now(run, digits, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    facts = json.loads((own / "run.json").read_text())
    facts["data"]["root"] = "/nowhere"
    (own / "run.json").write_text(json.dumps(facts))
    few = {"targets": ("x86-cpu",), "golden": 2}
    with pytest.raises(DataError, match="name the folder that has them now with --data"):
        edgeclf.bundle(own, tmp_path / "a.edge", **few)
    moved = shutil.copytree(digits, tmp_path / "moved")
    (moved / "3" / "000.png").unlink()
    report = edgeclf.bundle(own, tmp_path / "a.edge", data=str(moved), **few)
    assert "1 of the 180 images" in report.notes[-1]
    assert json.loads(report.to_json())["unreadable"] == 0


WITHOUT_CHMOD = """
import ctypes, os, sys
from edgeclf_runtime.capture.sandbox import seccomp
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # no new privileges, without which no filter is allowed
if not seccomp.install(("chmod", "fchmod", "fchmodat", "fchmodat2")):
    sys.exit(77)
try:
    os.chmod(".", 0o755)
    sys.exit("chmod was not refused")
except PermissionError:
    pass
import edgeclf
edgeclf.bundle(sys.argv[1], "pets.edge")
"""


@pytest.mark.slow
def test_a_bundle_is_written_where_permissions_cannot_be_set(run, bundle, tmp_path):
    """A file system of Windows or of a network may refuse chmod; here the kernel does."""
    command = [sys.executable, "-c", WITHOUT_CHMOD, str(run)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if done.returncode == 77:
        pytest.skip("this kernel has no seccomp")
    assert done.returncode == 0, done.stderr
    made, expected = (
        {name: data for name, data in contents(folder).items() if name.startswith("edgeclf_runtime/")}
        for folder in (tmp_path / "pets.edge", bundle)
    )
    assert made == expected
    assert open_bundle(tmp_path / "pets.edge").id
