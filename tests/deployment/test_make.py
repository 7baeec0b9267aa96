"""From labeled images to a bundle by one call, and again after it stopped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import edgeclf
from edgeclf import MakeOptions
from edgeclf.deployment import make as module
from edgeclf.errors import DataError, OptionError, OutputError
from edgeclf.options import BundleOptions, QuantizeOptions, TrainOptions
from edgeclf_runtime.bundle.open_bundle import open_bundle

OPTIONS = MakeOptions(
    backbone="test_efficientnet",
    weights="none",
    image_size=64,
    epochs=1,
    targets=("x86-cpu",),
    method="minmax",
    form="standard",
    size=20,
    max_drop=1,
)
STEPS = ("check", "train", "export", "quantize", "evaluate", "bundle")

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(digits, tmp_path):
    return Path(shutil.copytree(digits, tmp_path / "photos"))


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """A finished call: its photographs, bundle and report; read only."""
    folder = tmp_path_factory.mktemp("made")
    photos = Path(shutil.copytree(digits, folder / "photos"))
    return photos, folder / "pets.edge", edgeclf.make(photos, folder / "pets.edge", OPTIONS)


@pytest.fixture
def made(finished, tmp_path):
    """A copy of what a finished call made, of the same photographs."""
    photos, output, _ = finished
    for path in (output, output.with_suffix(".run")):
        shutil.copytree(path, tmp_path / path.name)
    return photos, tmp_path / "pets.edge"


def test_one_call_goes_all_the_way_and_says_where_the_run_is(finished):
    _, output, report = finished
    assert report.made == STEPS
    assert report.run == str(output.with_suffix(".run"))
    assert report.run in str(report)
    assert max(map(len, str(report).splitlines()[1:])) <= 80 + len(report.run)
    opened = open_bundle(output)
    assert opened.id == report.bundle_id
    assert {model.name for model in opened.models} == {"fp32", "int8-cpu"}  # OpenVINO's own file is the same
    assert edgeclf.evaluate(report.run, finished[0]).accuracy == pytest.approx(report.accuracy, abs=1e-6)
    assert json.loads(report.to_json())["made"] == list(STEPS)


def test_a_first_call_says_nothing_of_resuming_and_without_a_name_takes_no_folder(photos, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(module, "train", lambda *_, resume, **__: said.append(resume) or edgeclf.DataError)
    with pytest.raises(edgeclf.EdgeclfError):
        edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS)
    assert said == [False]
    with pytest.raises(DataError, match="the name of the data is empty"):
        edgeclf.make("", tmp_path / "pets.edge", OPTIONS)


def test_a_second_call_finds_everything_done(made):
    photos, output = made
    before = {path: path.stat().st_mtime_ns for path in output.parent.rglob("*")}
    report = edgeclf.make(photos, output, OPTIONS)
    assert report.made == ()
    assert "everything was up to date" in str(report)
    assert {path: path.stat().st_mtime_ns for path in output.parent.rglob("*")} == before


@pytest.mark.parametrize("stop", ["export", "quantize", "evaluate", "bundle"])
def test_a_call_after_one_that_stopped_goes_on_there(photos, tmp_path, monkeypatch, stop):
    def interrupt(*_):
        raise KeyboardInterrupt

    name = {"export": "exported"}.get(stop, stop)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS)
    assert not (tmp_path / "pets.edge").exists()
    report = edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS)
    first = "evaluate" if stop == "bundle" else stop
    assert report.made == STEPS[STEPS.index(first) :]


@pytest.mark.parametrize(
    ("change", "message", "again"),
    [
        ({"epochs": 2}, "trained with other data or options (epochs was 1, now 2)", STEPS),
        ({"size": 30}, "{run} has files that were quantized with other options (int8-cpu, int8-openvino)", STEPS[3:]),
        ({"coverage": 0.5}, "was made from other files or with other options", ("evaluate", "bundle")),
    ],
)
def test_other_options_are_noticed_and_overwrite_makes_again_what_depends_on_them(made, change, message, again):
    photos, output = made
    options = replace(OPTIONS, **change)
    with pytest.raises(OutputError) as error:
        edgeclf.make(photos, output, options)
    assert message.format(run=output.with_suffix(".run")) in str(error.value)
    assert "pass --overwrite" in str(error.value)
    assert edgeclf.make(photos, output, options, overwrite=True).made == again
    assert edgeclf.make(photos, output, options).made == ()


def test_a_further_target_only_adds_to_the_run(made):
    photos, output = made
    options = replace(OPTIONS, targets=("x86-cpu", "jetson-nano"))
    before = (output.with_suffix(".run") / "model.int8-cpu.onnx").stat().st_mtime_ns
    assert edgeclf.make(photos, output, options, overwrite=True).made == ("quantize", "evaluate", "bundle")
    assert (output.with_suffix(".run") / "model.int8-cpu.onnx").stat().st_mtime_ns == before
    assert {model.name for model in open_bundle(output).models} == {"fp32", "int8-cpu", "fp16"}


def test_a_file_of_weights_that_changed_is_noticed(finished, digits, tmp_path):
    weights = shutil.copy(Path(finished[2].run) / "model.safetensors", tmp_path / "own.safetensors")
    options = replace(OPTIONS, weights=str(weights))
    edgeclf.train(digits, tmp_path / "pets.run", options.part(TrainOptions))
    data = Path(weights).read_bytes()
    Path(weights).write_bytes(data[:-4] + bytes(4))
    with pytest.raises(OutputError, match=r"own\.safetensors have changed"):
        edgeclf.make(digits, tmp_path / "pets.edge", options)


def add(photos):
    shutil.copy(photos / "3" / "000.png", photos / "5" / "new.png")
    (photos / "5" / "new.png").write_bytes((photos / "3" / "000.png").read_bytes() + b" ")


def relabel(photos):
    (photos / "3" / "000.png").rename(photos / "5" / "moved.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add, "1 images are new and 0 are gone"),
        (relabel, "1 images are new and 1 are gone"),
        (lambda photos: (photos / "3" / "000.png").unlink(), "0 images are new and 1 are gone"),
    ],
)
def test_other_data_is_noticed(photos, tmp_path, change, message):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "exported", lambda run: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS)
    change(photos)
    with pytest.raises(OutputError, match=rf"other data or options \(.*{message}.*--overwrite"):
        edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS)


def test_a_flavor_that_does_not_pass_is_left_out(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeclf.quantization.search.Search._effects", lambda *_: [])
    monkeypatch.setattr("edgeclf.quantization.search.fewest", lambda count, attempt: None)
    monkeypatch.setattr("edgeclf.quantization.search.gate_failure", lambda *_: "it lost too much")
    report = edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS)
    assert {model.name for model in open_bundle(tmp_path / "pets.edge").models} == {"fp32"}
    assert "quantize" in report.made
    # It failed with these options, and would again.
    assert edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS).made == ()


def test_an_unreadable_image_stops_it_and_may_be_left_out(photos, tmp_path):
    (photos / "3" / "bad.png").write_text("no image")
    with pytest.raises(DataError, match="--skip-unreadable"):
        edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS)
    options = replace(OPTIONS, skip_unreadable=True)
    report = edgeclf.make(photos, tmp_path / "pets.edge", options)
    assert (report.made, report.unreadable) == (STEPS, 1)
    assert "left out: 1 image that cannot be decoded" in str(report)
    assert edgeclf.make(photos, tmp_path / "pets.edge", options).made == ()


def test_what_stands_in_the_way_is_refused_before_anything_is_trained(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train", None)
    (tmp_path / "pets.edge").mkdir()
    (tmp_path / "pets.edge" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="exists and is not empty"):
        edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS)
    with pytest.raises(OutputError, match="edgeclf did not create it"):
        edgeclf.make(photos, tmp_path / "pets.edge", OPTIONS, overwrite=True)
    with pytest.raises(OptionError, match=r"NAME\.edge was expected, such as .*pets\.edge"):
        edgeclf.make(photos, tmp_path / "pets", OPTIONS)


def test_the_options_of_each_step_are_passed_on():
    assert OPTIONS.part(TrainOptions) == TrainOptions(
        backbone="test_efficientnet", weights="none", image_size=64, epochs=1, targets=("x86-cpu",)
    )
    assert OPTIONS.part(QuantizeOptions) == QuantizeOptions(
        targets=("x86-cpu",), method="minmax", form="standard", size=20, max_drop=1
    )
    assert OPTIONS.part(BundleOptions) == BundleOptions(targets=("x86-cpu",))
    assert MakeOptions().part(QuantizeOptions).wanted == QuantizeOptions().wanted


def test_photographs_that_moved_as_they_are_are_the_same_data(made, tmp_path):
    photos, output = made
    moved = shutil.copytree(photos, tmp_path / "moved")
    report = edgeclf.make(moved, output, replace(OPTIONS, targets=("x86-cpu", "jetson-nano")), overwrite=True)
    assert "train" not in report.made
    assert "quantize" in report.made
