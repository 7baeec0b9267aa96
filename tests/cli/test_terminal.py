"""Names that would command a terminal, and passwords, which are not shown."""

import json
import shutil

import pytest

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
