"""Text from outside cannot command a terminal, forge a line or hide anything."""

import json
import logging
import subprocess
import sys
import unicodedata

import pytest

from edgeclf_runtime.text.logs import LogFormatter
from edgeclf_runtime.text.terminal import is_invisible, message, printable, printable_json, relay
from tests.support.pictures import encode, noise
from tests.support.sealing import rename_labels, reseal
from tests.support.starting import output_of, start

NASTY = "\x1b]0;pwn\x07 \x9b31m \u202egnp.exe \u200b\u2066\u2028\ufeff\u00ad\u3164\U000e0041 \x7f\ttab"


def test_every_character_that_commands_or_hides_is_escaped():
    for number in (*range(0x3000), *range(0xFE00, 0x10000), *range(0xE0000, 0xE0100)):
        letter = chr(number)
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert printable(letter).isascii() if hasattr(str, "isascii") else printable(letter).encode("ascii")
            assert printable(letter).startswith("\\")


@pytest.mark.parametrize(
    "text", ["", "caf\u00e9 \u6570\u5b57 \u03b1", "\U0001f680 \u2764\ufe0f", 'C:\\x "quoted"', "\u00a0"]
)
def test_readable_text_is_shown_unchanged(text):
    assert printable(text) == text
    assert printable_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


def test_an_escaped_text_is_written_as_python_writes_it():
    assert printable("a\x1b\n\u202e\U000e0041\udce9") == r"a\x1b\n\u202e\U000e0041\udce9"


def test_lines_are_kept_if_requested():
    assert printable("a\nb\x1b", "\n") == "a\nb\\x1b"
    assert message("error: a\nerror: forged") == "error: a\n  error: forged"


def test_escaped_json_is_the_same_value():
    value = {NASTY: [NASTY, "a\nb"]}
    text = printable_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == value
    assert not any(is_invisible(letter) for letter in text.replace("\n", ""))


def test_a_log_record_is_one_message_whatever_it_holds():
    record = logging.LogRecord("x", logging.WARNING, "", 0, "skipped %s", ("a\nERROR: b\x1b rtsp://u:word@h",), None)
    shown = LogFormatter("%(levelname)s: %(message)s").format(record)
    assert shown == "WARNING: skipped a\n  ERROR: b\\x1b rtsp://***@h"


def is_clean(text):
    return not any(is_invisible(letter) for letter in text.replace("\n", ""))


@pytest.fixture
def hidden(copied):
    """A bundle whose names contain invisible letters."""
    name = "\u200bcat\u00ad\u3164"
    rename_labels(copied, lambda number: name + str(number))
    reseal(copied, lambda manifest: manifest.update(name=name))
    return copied


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("command", ["info", "classify", "run"])
def test_names_of_a_bundle_and_of_files_do_not_reach_the_terminal(hidden, tmp_path, command, as_json):
    (tmp_path / "pictures").mkdir()
    image, broken = (tmp_path / "pictures" / (letter + NASTY + "\nforged.png") for letter in "ab")
    image.write_bytes(encode(".png", noise(64, 48)))
    broken.write_bytes(b"no image")
    arguments = {"classify": [image, broken], "run": ["--source", tmp_path / "pictures"]}.get(command, [])
    environment = {"PYTHONIOENCODING": "utf-8"}
    code, out, err = output_of(start(hidden, command, *arguments, *["--json"] * as_json, environment=environment))
    assert code == (1 if command == "classify" else 0), err
    assert is_clean(out + err)
    assert not [line for line in (out + err).splitlines() if line.startswith("forged")]
    if as_json:
        assert json.loads(out.splitlines()[0]).get("image", str(image)) == str(image)
    else:
        assert "\\u200bcat" in out


def test_a_bundle_whose_names_command_a_terminal_is_refused_without_commanding_it(copied):
    reseal(copied, lambda manifest: manifest.update(name=NASTY + "\nforged"))
    code, out, err = output_of(start(copied, "info", environment={"PYTHONIOENCODING": "utf-8"}))
    assert (code, out) == (1, "")
    assert is_clean(err)
    assert not [line for line in err.splitlines() if line.startswith("forged")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        [NASTY],
        ["classify"],
        ["run", "--source", NASTY + "\nforged"],
        ["run", "--source", "test://", "--flip", NASTY + "\nforged"],
        ["run", "--source", "test://", "--frames", NASTY],
        ["run", "--source", "test://", "--sink", NASTY],
        ["classify", "x.png", "--model", NASTY + "\nforged"],
        ["classify", "x.png", "--backend", NASTY],
        ["classify", "x.png", "--allow", NASTY],
        ["classify", "x.png", "--" + NASTY],
        ["run", "--source", "test://", "--password-file", NASTY],
    ],
)
def test_a_usage_error_is_printed_without_escape_sequences(bundle, arguments):
    environment = {"PYTHONIOENCODING": "utf-8"}
    code, out, err = output_of(start(bundle, *arguments, environment=environment))
    assert code in (1, 2)
    assert is_clean(out + err)
    assert not [line for line in err.splitlines() if line.startswith("forged")]


def test_a_childs_messages_are_relayed_without_secrets_and_escape_sequences(capfd):
    script = "import os; os.write(2, b'[rtsp] rtsp://me:word@h/x\\x1b[31m \\xff failed\\nlast')"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    relay(process.stderr).join()
    process.wait()
    assert capfd.readouterr().err == "[rtsp] rtsp://***@h/x\\x1b[31m \\xff failed\nlast\n"
