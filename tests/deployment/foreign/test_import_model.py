"""Importing models of other programs: the same logits as there, the images that they were trained on, or a clear refusal."""

import json
import pickle
import shutil
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
import torch

import edgeclf
from edgeclf import read_run
from edgeclf.errors import DataError, GateError, ModelError
from edgeclf.graph.inference import infer_file
from edgeclf.training.machine import threads as torch_machine
from edgeclf_runtime import Classifier
from tests.product.test_remedies import OPTION
from tests.support.foreign import LABELS, SETTINGS, SIZE, ULTRALYTICS, color_model
from tests.support.foreign_torch import Colors

# From a file to a device


def test_an_imported_model_goes_all_the_way_to_a_device(imported, colored_photos, tmp_path):
    report = imported(color_model(tmp_path / "colors.onnx", opset=17, end="Softmax"))
    assert (report.accuracy, report.removed, report.dynamic_batch) == (1.0, "Softmax", True)
    assert edgeclf.evaluate(tmp_path / "run", colored_photos).accuracy == 1
    chosen = edgeclf.calibrate(
        colored_photos,
        tmp_path / "set",
        edgeclf.CalibrateOptions(size=36, rule="uncertain", model=str(tmp_path / "run")),
    )
    options = edgeclf.QuantizeOptions(
        form="standard", calibration=chosen.path, flavors=("int8-cpu", "fp16"), baseline=True
    )
    quantized = edgeclf.quantize(tmp_path / "run", options)
    assert quantized.baseline is None
    assert all(file.comparison.agreement == 1 for file in quantized.files)
    edgeclf.bundle(tmp_path / "run", tmp_path / "colors.edge", edgeclf.BundleOptions(golden=4))
    done = subprocess.run([sys.executable, tmp_path / "colors.edge", "selftest"], capture_output=True, text=True)
    assert (done.returncode, "pass: fp32 on onnxruntime" in done.stdout) == (0, True)


def test_imported_images_are_divided_as_those_of_a_run(imported, colored_photos, tmp_path):
    imported(color_model(tmp_path / "colors.onnx"), seed=5)
    earlier = read_run(tmp_path / "run").split_rows()
    (tmp_path / "run").rename(tmp_path / "earlier")
    imported(tmp_path / "colors.onnx")
    assert read_run(tmp_path / "run").split_rows() != earlier
    imported(tmp_path / "colors.onnx", split_of=str(tmp_path / "earlier"))
    assert read_run(tmp_path / "run").split_rows() == earlier
    imported(tmp_path / "colors.onnx", group_by="([02468])\\.png")
    groups = {row["group"]: row["split"] for row in read_run(tmp_path / "run").split_rows() if row["group"]}
    assert set(groups) == set("02468")


@pytest.mark.parametrize("size", [32, 64])
def test_a_warning_of_an_import_names_options_of_import(colored_photos, tmp_path, command, size):
    model = color_model(tmp_path / "colors.onnx", size=size)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    wide = shutil.copytree(colored_photos, tmp_path / "wide")
    for path in wide.rglob("*.png"):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (96, 40)))
    given = [f"--{name}={SETTINGS[name]}" for name in ("color", "range", "mean", "std", "resize")]
    labels = tmp_path / "labels.txt"
    code, _, err = command("import", model, "--output", tmp_path / "run", "--labels", labels, "--data", wide, *given)
    assert (code, ("are enlarged" in err, "discards" in err)) == (0, (size > 40, True))
    assert set(OPTION.findall(err.partition("next:")[0])) <= {"--resize", "--json"}
    assert "import it with --resize stretch" in err


class Watched(Colors):
    """Notes with how many threads torch calls it."""

    def forward(self, pixels):
        THREADS.append(torch.get_num_threads())
        return super().forward(pixels)


THREADS = []


def test_torch_uses_no_more_threads_than_a_container_may(imported, monkeypatch):
    monkeypatch.setattr(torch_machine, "quota_cores", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        imported(Watched().eval(), size=str(SIZE))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(THREADS) == {2}


def test_a_run_says_what_was_imported_and_how(imported, tmp_path):
    imported(color_model(tmp_path / "colors.onnx"))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["kind"], facts["model"]["name"], facts["model"]["kind"]) == ("imported", "colors.onnx", "ONNX")
    assert facts["options"]["sources"]["size"] == "the input's shape"
    assert facts["data"]["images"]["train"] > 40
    assert edgeclf.read_run(tmp_path / "run").dataset().labels == LABELS


@pytest.mark.parametrize(
    "form",
    [
        *({"opset": opset} for opset in (9, 11, 15, 17, 18, 20, 21)),
        {"batch": 1},
        {"batch": 1, "opset": 18},
        {"batch": 4},
        {"layout": "NHWC"},
        {"layout": "NHWC", "batch": 1},
        {"end": "Softmax"},
        {"end": "LogSoftmax"},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER", "layout": "NHWC"},
        {"auto_pad": "VALID"},
    ],
    ids=str,
)
def test_every_form_gives_the_logits_of_the_original(imported, colored_photos, tmp_path, form):
    import onnxruntime

    path = color_model(tmp_path / "colors.onnx", **form)
    report = imported(path, mean="0.1,0.2,0.3", std="0.5,0.6,0.7", force=True)
    assert report.largest_difference < 1e-5
    file = tmp_path / "run" / "model.fp32.onnx"
    graph = onnx.load(file)
    assert {entry.version for entry in graph.opset_import} == {13}
    assert [value.name for value in (*graph.graph.input, *graph.graph.output)] == ["image", "logits", "features"]
    batch = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)
    found = infer_file(file, "fp32", [batch])
    session = onnxruntime.InferenceSession(
        color_model(tmp_path / "plain.onnx", **{**form, "end": "Identity", "batch": "N"})
    )
    pixels = ((batch / 255 - (0.1, 0.2, 0.3)) / (0.5, 0.6, 0.7)).astype(np.float32)
    if form.get("layout") != "NHWC":
        pixels = pixels.transpose(0, 3, 1, 2)
    expected = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    assert np.abs(found - expected).max() < 1e-4


def test_a_torch_module_and_its_torchscript_are_imported(imported, tmp_path):
    module = Colors().eval()
    assert imported(module, size=str(SIZE)).accuracy == 1
    torch.jit.trace(module, torch.zeros(1, 3, SIZE, SIZE)).save(str(tmp_path / "colors.torchscript"))
    assert imported(tmp_path / "colors.torchscript", size=str(SIZE)).accuracy == 1
    torch.jit.script(module).save(str(tmp_path / "colors.pt"))
    assert imported(tmp_path / "colors.pt", size=str(SIZE)).largest_difference < 1e-5


def test_a_module_stays_as_it_was(imported):
    module = Colors().half().train()
    imported(module, size=str(SIZE))
    assert module.training
    assert next(module.parameters()).dtype == torch.float16


@pytest.mark.slow
def test_torchvisions_resnet18_keeps_its_logits_and_its_labels_in_int8(digits, tmp_path):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=3).train()
    dataset = edgeclf.load_dataset(digits)
    samples = dataset.split("train")
    from edgeclf.data.pixels import load_batches
    from edgeclf_runtime.images.preprocess import Preprocessing

    spec, mean, std = Preprocessing(64, 64), torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    pixels = np.concatenate(list(load_batches([sample.path for sample in samples], spec, 32, "")))
    inputs = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)
    truth = torch.tensor([dataset.index(sample) for sample in samples])
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(6):
        for chosen in torch.randperm(len(truth)).split(24):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs[chosen]), truth[chosen]).backward()
            optimizer.step()
    usual = {"color": "RGB", "range": "0-1", "mean": "imagenet", "std": "imagenet", "resize": "crop", "size": "64"}
    options = edgeclf.ImportOptions(label_names=dataset.labels, **usual)
    report = edgeclf.import_model(network.eval(), tmp_path / "run", options, data=digits)
    assert report.accuracy > 0.8
    quantized = edgeclf.quantize(
        tmp_path / "run",
        edgeclf.QuantizeOptions(form="standard", method="percentile", flavors=("int8-cpu",), size=60, max_drop=0.1),
    )
    assert quantized.files[0].comparison.agreement >= 0.98
    edgeclf.bundle(tmp_path / "run", tmp_path / "digits.edge", edgeclf.BundleOptions(golden=2))
    with Classifier.open(tmp_path / "digits.edge", "fp32") as classifier, torch.inference_mode():
        found = np.concatenate([classifier.runner.infer(image[None]) for image in pixels])
        assert np.abs(found - network(inputs).numpy()).max() < 1e-3


# What labeled images show


def test_a_wrong_color_order_is_found(imported, tmp_path):
    with pytest.raises(
        GateError, match=r"RGB gives 100.0% where BGR gives \d+.\d% of 80 images .*: use --color RGB, or"
    ):
        imported(color_model(tmp_path / "m.onnx"), color="BGR")
    assert not (tmp_path / "run").exists()


def test_a_wrong_normalization_is_found(imported, tmp_path):
    path = signed_model(tmp_path / "m.onnx")
    with pytest.raises(GateError, match=r"gives 100.0% where --range 0-255 --mean 0,0,0 --std 1,1,1 gives 50.0%"):
        imported(path, range="0-255")
    assert imported(path, range="-1..1").accuracy == 1


def signed_model(path):
    """Write color_model() for pixels of -1 to 1: it saturates if they are larger."""
    model = onnx.load(color_model(path))
    bounds = [
        onnx.numpy_helper.from_array(np.array(value, np.float32), name) for value, name in ((-1, "lo"), (1, "hi"))
    ]
    model.graph.initializer.extend(bounds)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "planes":
                node.input[index] = "bounded"
    model.graph.node.insert(0, onnx.helper.make_node("Clip", ["planes", "lo", "hi"], ["bounded"]))
    onnx.save(model, path)
    return path


def test_wrong_settings_can_be_kept(imported, tmp_path):
    report = imported(color_model(tmp_path / "m.onnx"), color="BGR", force=True)
    assert report.accuracy < 0.1
    assert report.ways["--color RGB --range 0-1 --mean 0 --std 1"] == 1


def test_without_images_nothing_is_proven_and_quantize_says_what_it_needs(imported, colored_photos, tmp_path):
    report = imported(color_model(tmp_path / "m.onnx"), data=None)
    assert "nothing was proven about colors, normalization and labels" in str(report)
    assert edgeclf.evaluate(tmp_path / "run", colored_photos, split="all").accuracy == 1
    for step in (edgeclf.quantize, lambda run: edgeclf.bundle(run, tmp_path / "m.edge")):
        with pytest.raises(DataError, match=r"was imported without images, .*: import m.onnx again, with --data"):
            step(tmp_path / "run")


def test_images_of_a_label_that_the_model_lacks_are_refused(imported, tmp_path):
    with pytest.raises(DataError, match="has the labels dog, which the model does not know"):
        imported(color_model(tmp_path / "m.onnx"), label_names=("cat", "cow"))


def test_an_imported_run_has_no_torch_network(imported, tmp_path):
    imported(color_model(tmp_path / "m.onnx"))
    with pytest.raises(
        ModelError, match=r"was imported from m.onnx, so it has no torch network; its model is model.fp32"
    ):
        edgeclf.read_run(tmp_path / "run").network()
    with pytest.raises(ModelError, match="no torch network"):
        edgeclf.export(tmp_path / "run", tmp_path / "again.onnx")


# Files that are no models, or that run code


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("m.keras", r'model.export\("model.onnx", format="onnx"\)'),
        ("m.tflite", "before it was quantized"),
        ("m.jpg", "neither ONNX nor TorchScript"),
        ("m.onnx", "is not an ONNX file"),
        ("m.torchscript", "is not a TorchScript file"),
    ],
)
def test_other_files_are_refused_with_what_to_do(imported, tmp_path, name, said):
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ModelError, match=said):
        imported(tmp_path / name)
    with pytest.raises(ModelError, match="does not exist"):
        imported(tmp_path / f"absent-{name}")


class Trap:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    "save", [lambda trap, path: torch.save(trap, path), lambda trap, path: path.write_bytes(pickle.dumps(trap))]
)
def test_a_pickle_is_never_loaded(imported, tmp_path, save):
    save({"model": Trap(tmp_path / "sprung")}, tmp_path / "best.pt")
    with pytest.raises(ModelError, match=r"yolo export model=NAME.pt format=onnx; torch: torch.onnx.export"):
        imported(tmp_path / "best.pt")
    assert not (tmp_path / "sprung").exists()


class Writer(torch.nn.Module):
    """TorchScript that writes a file."""

    def forward(self, pixels):
        torch.save(pixels, "/tmp/edgeclf-written")
        return pixels.mean((2, 3))


class Reader(torch.nn.Module):
    """TorchScript that reads a file."""

    def forward(self, pixels):
        return pixels.mean((2, 3)) + torch.from_file("/etc/hostname", False, 1).sum()


@pytest.mark.parametrize(("kind", "operator"), [(Writer, "torch.save"), (Reader, "torch.from_file")])
def test_torchscript_that_touches_files_is_refused_before_it_is_loaded(imported, tmp_path, kind, operator):
    torch.jit.script(kind()).save(str(tmp_path / "m.pt"))
    with pytest.raises(ModelError, match=rf"m.pt uses {operator}, which a classifier does not need"):
        imported(tmp_path / "m.pt", size=str(SIZE))


def test_the_command_prints_accuracy_and_what_follows(command, colored_photos, tmp_path):
    path = color_model(tmp_path / "m.onnx", props=ULTRALYTICS.items())
    code, out, err = command("import", path, "--data", colored_photos, "--output", tmp_path / "run")
    assert (code, "accuracy 1.0000 on 80 labeled images" in out) == (0, True)
    assert f"next: edgeclf quantize {tmp_path / 'run'}" in err
    code, _, err = command("import", path, "--data", colored_photos, "--output", tmp_path / "other", "--color", "BGR")
    assert (code, "use --color RGB" in err) == (3, True)
    code, out, _ = command(
        "import", path, "--output", tmp_path / "third", "--range", "-1..1", "--mean", "-0.5", "--json"
    )
    assert (code, json.loads(out)["options"]["mean"]) == (0, [-0.5] * 3)


def test_images_are_compared_with_the_size_of_the_model_that_is_imported(imported, tmp_path):
    for size, warned in ((32, False), (64, True)):
        report = imported(color_model(tmp_path / "m.onnx", size=size))
        facts = read_run(report.run).facts["data"]["findings"]
        assert any("smaller than the model's input of 64 x 64" in line for line in facts) == warned


def test_images_by_position_are_refused_and_overwrite_nothing(tmp_path):
    with pytest.raises(
        edgeclf.OptionError,
        match=r"overwrite is 'photos'; True or False was expected, and images by name: data='photos'",
    ):
        edgeclf.import_model("model.onnx", tmp_path, None, "photos")
