"""The commands that are suggested after a command."""

import json
import shlex
import shutil

import pytest
import typer

from edgeclf import cli
from edgeclf_runtime.commands.parser import make_parser
from tests.support.host_commands import QUICK

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


def test_a_training_without_the_unreadable_images_suggests_an_evaluation_without_them(command, digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    (photos / "3" / "bad.jpg").write_text("This is no photograph.")
    code, _, err = command("train", photos, "--output", tmp_path / "new", "--skip-unreadable", *QUICK)
    assert code == 0, err
    assert f"next: edgeclf evaluate {tmp_path / 'new'} {photos} --skip-unreadable" in err.splitlines()


def test_with_json_nothing_is_suggested(command, run, digits):
    for arguments in (["check", digits], ["evaluate", run, digits], ["list", "targets"]):
        code, out, err = command(*arguments, "--json")
        assert (code, "next:" in err) == (0, False)
        json.loads(out)


def test_the_next_commands_know_where_the_images_of_a_run_are_now(command, run, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved = shutil.copytree(run, tmp_path / "moved")
    facts = json.loads((moved / "run.json").read_text())
    facts["data"]["root"] = str(tmp_path / "gone")
    (moved / "run.json").write_text(json.dumps(facts))
    for line in (
        ("evaluate", moved, digits),
        ("calibrate", moved, "--output", "set", "--size", "30", "--data", digits),
    ):
        code, _, err = command(*line)
        assert (code, err.splitlines()[-1].split()[-2:]) == (0, ["--data", str(digits)])
    for path in moved.glob("*fp16*"):
        path.unlink()
    code, out, _ = command("bundle", moved, "--output", "new.edge", "--target", "jetson-nano", "--data", digits)
    assert code == 0
    assert (
        f"jetson-nano lacks fp16; make them with: edgeclf quantize {moved} --target jetson-nano --data {digits}" in out
    )
