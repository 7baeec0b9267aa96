import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import edgeclf
from edgeclf import export_formats, read_run
from edgeclf.deployment.formats import base, timm_folder, torchscript
from edgeclf.deployment.formats.export import FormatsError
from edgeclf.deployment.formats.golden_tensors import write_golden_tensors
from edgeclf.deployment.formats.table import FORMATS, module_of
from edgeclf.errors import DependencyError, ImageError, OptionError, OutputError
from edgeclf.evaluation.export import comparison_images
from edgeclf.evaluation.open_model import TorchRunner
from edgeclf.options import EXPORT_FORMATS
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner
from tests.support.foreign import color_model
from tests.support.photos import write_photos

HERE = ("onnx", "torchscript", "torch-export", "openvino", "timm")
"""Formats whose libraries the tests install."""


@pytest.fixture(scope="module")
def exported(run, shared):
    """A folder with all formats whose libraries are here, and the report as JSON."""
    with shared("formats") as folder:
        if not folder.exists():
            report = export_formats(run, output=folder, formats=HERE, golden=folder / "golden")
            (folder / "report.json").write_text(report.to_json())
            (folder / "report.txt").write_text(str(report))
    return folder


def test_the_table_has_every_format_that_the_options_name():
    assert tuple(FORMATS) == EXPORT_FORMATS
    assert all(module_of(one).write and module_of(one).load for one in FORMATS.values())


def test_each_file_is_loaded_back_compared_and_timed(exported):
    facts = json.loads((exported / "report.json").read_text())
    assert [row["format"] for row in facts["rows"]] == list(HERE)
    assert (facts["reference"], facts["images"], facts["noise"]) == ("torch", 8, False)
    for row in facts["rows"]:
        assert row["largest_difference"] < 1e-3
        assert row["latency_ms"] > 0
        assert row["size"] > 4e5
        assert Path(row["path"]).exists()


def test_the_table_is_within_80_columns(exported):
    lines = (exported / "report.txt").read_text().splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"golden tensors: {exported / 'golden'}"
    assert [line.split()[0] for line in lines[1:7]] == ["torch", *HERE]


def test_golden_tensors_and_models_among_photographs_are_no_classes(exported, tmp_path):
    write_photos(tmp_path, [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(5)])
    for name in ("golden", "timm", "model.openvino", "model.torchscript", "model.pt2", "model.fp32.onnx"):
        (tmp_path / "formats").mkdir(exist_ok=True)
        (tmp_path / "formats" / name).symlink_to(exported / name)
    data = edgeclf.load_dataset(tmp_path)
    assert data.labels == ("cat", "dog")
    assert len(data.samples) == 10


@pytest.mark.parametrize("name", HERE)
def test_a_file_takes_raw_pixels_and_any_number_of_images(run, exported, name):
    opened = read_run(run)
    batch = np.concatenate(comparison_images(opened.dataset(), opened.preprocessing)[0][:3])
    expected = TorchRunner(opened.network()).infer(batch)
    with module_of(FORMATS[name]).load(exported / FORMATS[name].file, 1) as runner:
        assert np.abs(runner.infer(batch) - expected).max() < 1e-3


def test_the_labels_are_in_the_files_of_torch(exported):
    import torch

    extra = {torchscript.FACTS: ""}
    torch.jit.load(str(exported / "model.torchscript"), _extra_files=extra)
    assert json.loads(extra[torchscript.FACTS])["labels"] == ["3", "5", "8"]
    extra = {torchscript.FACTS: ""}
    torch.export.load(exported / "model.pt2", extra_files=extra)
    assert json.loads(extra[torchscript.FACTS])["preprocessing"]["height"] == 64


def test_an_openvino_file_says_to_model_api_what_it_holds(exported):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    model = openvino.Core().read_model(exported / "model.openvino" / "model.xml")
    assert model.get_rt_info(["model_info", "labels"]).astype(str) == "3 5 8"
    assert model.get_rt_info(["model_info", "reverse_input_channels"]).astype(str) == "True"


def test_a_network_that_shares_weights_becomes_a_folder_of_timm(usual_run, tmp_path):
    source = base.Source(read_run(usual_run))
    blocks = source.network.backbone.blocks[3]
    blocks[1].conv_pw.weight = blocks[2].conv_pw.weight
    timm_folder.write(source, tmp_path / "timm")
    batch = np.concatenate(comparison_images(source.run.dataset(), source.run.preprocessing)[0][:3])
    with timm_folder.load(tmp_path / "timm", 1) as runner:
        assert np.abs(runner.infer(batch) - TorchRunner(source.network).infer(batch)).max() < 1e-3


def test_golden_tensors_of_unreadable_images_are_of_others_if_asked(run, digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    opened = read_run(run)
    for row in opened.split_rows():
        if row["split"] == "val":
            (photos / row["path"]).write_text("no image")
    data = replace(
        opened.dataset(),
        samples=tuple(replace(one, path=photos / one.path.relative_to(digits)) for one in opened.dataset().samples),
    )
    with OnnxRuntimeRunner(run / "model.fp32.onnx") as reference:
        with pytest.raises(ImageError, match="or leave such images out with --skip-unreadable"):
            write_golden_tensors(tmp_path / "golden", opened, data, reference)
        write_golden_tensors(tmp_path / "golden", opened, data, reference, skip_unreadable=True)
    assert len(json.loads((tmp_path / "golden" / "golden.json").read_text())["cases"]) == 4


def test_one_format_is_written_to_the_output_and_never_over_another_file(run, tmp_path):
    export_formats(run, output=tmp_path / "own.pt", formats=("torchscript",))
    with pytest.raises(OutputError, match=r"own\.pt exists"):
        export_formats(run, output=tmp_path / "own.pt", formats=("torchscript",))


def test_a_missing_library_is_named_before_anything_is_written(run, tmp_path):
    missing = [one for one in FORMATS.values() if one.extra and not all(base._installed(name) for name, _ in one.needs)]
    if not missing:
        pytest.skip("the libraries of all formats are installed")
    expected = rf"needs .*not installed; install it: python3 -m pip install 'edgeclf\[{missing[0].extra}\]'"
    with pytest.raises(DependencyError, match=expected):
        export_formats(run, output=tmp_path / "out", formats=("torchscript", missing[0].name))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["litert", "coreml", "executorch"])
@pytest.mark.slow
def test_formats_whose_libraries_are_large(run, tmp_path, name):
    one = FORMATS[name]
    for package, _ in one.needs:
        if not base._installed(package):
            pytest.skip(f"{package} is not installed: python3 -m pip install 'edgeclf[{one.extra}]'")
    (row,) = export_formats(run, output=tmp_path / one.file, formats=(name,)).rows
    assert row.size > 1e7
    assert row.note == "specification checked; not run, Core ML needs macOS" or row.largest_difference < 1e-3


def test_a_format_that_differs_is_not_kept_and_the_others_are(command, run, tmp_path, monkeypatch):
    """Some other network's file is loaded back: what a broken converter would give."""

    def load(path, threads):
        return FirstImage(module_of(FORMATS["onnx"]).load(run / "model.fp32.onnx", threads))

    monkeypatch.setattr(torchscript, "load", load)
    formats = ("--format", "torchscript", "--format", "onnx")
    code, out, err = command("export", run, *formats, "--output", tmp_path / "out", "--json")
    rows = json.loads(out)["rows"]
    assert code == 3
    assert "logits differ from torch's by" in rows[0]["problem"]
    assert "torchscript: the exported file's logits differ" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.fp32.onnx"]


class FirstImage:
    """A runner that gives every image the logits of the first, and one more."""

    def __init__(self, runner):
        self._runner = runner

    def infer(self, batch):
        return self._runner.infer(batch) + 1

    def close(self):
        self._runner.close()


def test_what_a_converter_raises_is_one_sentence_with_the_versions(run, tmp_path, monkeypatch):
    def write(source, path):
        print("a thousand lines")
        raise AttributeError("module 'torch' has no attribute 'fx'")

    monkeypatch.setattr(torchscript, "write", write)
    with pytest.raises(FormatsError) as raised:
        export_formats(run, output=tmp_path / "it.pt", formats=("torchscript",))
    assert raised.value.exit_code == 1
    assert "cannot be written of this network (AttributeError: module 'torch' has no" in str(raised.value)
    assert f"found torch {version('torch')}; it was tried with torch 2." in str(raised.value)


def test_a_full_disk_is_not_taken_for_a_network_that_cannot_be_written(run, small_disk, monkeypatch):
    disk = small_disk("64k")

    def write(source, path):
        with pytest.raises(OSError, match="No space left"):
            Path(path).write_bytes(bytes(1 << 20))
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(torchscript, "write", write)
    with pytest.raises(OutputError, match=r"its disk is full\): free some space, or choose another --output"):
        export_formats(run, output=disk / "it.pt", formats=("torchscript",))


def test_what_a_converter_prints_stays_out_of_json(command, run, tmp_path, monkeypatch):
    write = torchscript.write

    def noisy(source, path):
        print("tracing")
        base.os.write(1, b"from C++\n")
        write(source, path)

    monkeypatch.setattr(torchscript, "write", noisy)
    code, out, err = command("export", run, "--format=torchscript", "--output", tmp_path / "it.pt", "--json")
    assert (code, json.loads(out)["rows"][0]["format"]) == (0, "torchscript")
    assert "tracing" not in err
    assert "C++" not in err


def test_an_imported_run_becomes_openvino_by_its_own_file(run, tmp_path):
    from edgeclf import import_model

    color_model(tmp_path / "model.onnx", size=64)
    import_model(tmp_path / "model.onnx", tmp_path / "run", label_names=("cat", "dog"), **IMPORTED)
    (row,) = export_formats(tmp_path / "run", formats=("openvino",)).rows
    assert row.largest_difference < 1e-3
    with pytest.raises(FormatsError, match=r"was imported from model\.onnx, so it has no torch network"):
        export_formats(tmp_path / "run", formats=("torchscript",))


IMPORTED = {"color": "RGB", "range": "0-1", "mean": "0", "std": "1", "resize": "crop"}


def test_a_format_that_does_not_exist_or_is_named_twice_is_refused(run):
    with pytest.raises(OptionError, match=r"there is no format keras; choose from onnx, torchscript"):
        export_formats(run, formats=("keras",))
    with pytest.raises(OptionError, match=r"each was expected once"):
        export_formats(run, formats=("onnx", "onnx"))


def test_an_earlier_folder_is_replaced_only_if_it_is_one_of_ours(run, tmp_path):
    own = Path(shutil.copytree(run, tmp_path / "run"))
    (own / "timm").mkdir()
    (own / "timm" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"has no config\.json, so edgeclf did not create it"):
        export_formats(own, formats=("timm",), overwrite=True)
