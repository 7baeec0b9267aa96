"""Passwords in files."""

import os

import pytest

from edgeclf_runtime.device.credentials import read_password
from edgeclf_runtime.errors import OptionError
from tests.support.passwords import password_file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; a password was expected"),
        ("\n", "is empty; a password was expected"),
        ("two\nlines\n", "has several lines"),
        ("\x1b[0m", "has several lines or a control character"),
        (b"\xff\xfe", "is not UTF-8"),
        ("x" * 5000, "is larger than 4096 bytes"),
    ],
)
def test_a_file_without_a_password_is_refused(tmp_path, text, message):
    with pytest.raises(OptionError, match=message):
        read_password(str(password_file(tmp_path, text)))


def test_a_password_file_that_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    for name, reason in (("pipe", "it is a pipe"), (".", "it is a folder"), ("gone", "No such file")):
        with pytest.raises(OptionError, match=reason + r".*name a file with the password as its only line"):
            read_password(str(tmp_path / name))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_line_end_is_not_part_of_the_password(tmp_path, end, caplog):
    assert read_password(str(password_file(tmp_path, " pass word " + end))) == " pass word "
    assert caplog.messages == []


@pytest.mark.slow
def test_a_password_file_that_is_missing_is_named(fails):
    for option in (["--password-file=/gone/file"], ["--password-file", "/gone/file"]):
        assert "the password file /gone/file cannot be read (No such file" in fails(
            "run", "--source", "test://", *option
        )


def test_a_password_file_that_others_can_read_causes_a_warning(tmp_path, caplog):
    read_password(str(password_file(tmp_path, mode=0o644)))
    assert "every user of this machine can read the password file" in caplog.text
