"""Secrets are removed from every text, and so from every error."""

import os
import re
import subprocess
import sys
from urllib.parse import quote

import pytest

from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.text import redaction
from tests.support.passwords import PASSWORD, PIECES, leaks


@pytest.mark.parametrize(
    "form",
    [
        "rtsp://admin:{raw}@host/x",
        'could not set property to "{raw}"',
        "{coded}",
        "{lower}",
        "Authorization: Basic {basic}",
        "OSError({repr})",
        "?pwd={raw}",
    ],
)
def test_a_known_secret_is_removed_from_every_text(form):
    redaction.protect(PASSWORD, "admin")
    coded = quote(PASSWORD, safe="")
    text = form.format(raw=PASSWORD, coded=coded, lower=coded.lower(), repr=repr(PASSWORD), basic=PIECES[-1])
    assert leaks(redaction.redact(text), str(EdgeclfError(text)), pieces=(*PIECES, coded.lower())) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot open rtsp://me:word@host/x: refused", "cannot open rtsp://***@host/x: refused"),
        ("cannot open 'rtsp://me:wo/r@d@host/x'", "cannot open 'rtsp://***@host/x'"),
        ('rtspsrc user-pw="two words" latency=0', "rtspsrc user-pw=*** latency=0"),
        ("GET /x?token=abc&channel=1", "GET /x?token=***&channel=1"),
        (
            "--password-file=/etc/x and --live-key=/etc/y are paths",
            "--password-file=/etc/x and --live-key=/etc/y are paths",
        ),
        ("no secret at all: a=b, rtsp://host/x", "no secret at all: a=b, rtsp://host/x"),
    ],
)
def test_anything_that_looks_like_a_secret_is_removed(text, shown):
    assert redaction.redact(text) == shown


def test_a_short_password_is_removed_only_as_a_whole_word():
    redaction.protect("cam")
    assert redaction.redact("camera cam is lost") == "camera *** is lost"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--source", "rtsp://admin:hun/ter@127.0.0.1:1/x"],
        ["run", "--source", "rtsp://admin:hunter@127.0.0.1:1/x"],
        ["run", "--source", "gst://nosuchthing user-pw=hunter ! x"],
        ["rtsp://admin:hun ter@127.0.0.1/x"],
        ["run", "--flip", "rtsp://admin:hun ter@127.0.0.1/x", "--source", "x"],
        ["run", "--frames", "http://h/x?password=hunter", "--source", "x"],
        ["run", "--source", "x", "rtsp:admin:hunter@127.0.0.1"],
        ["classify", "rtsp://admin:hunter@127.0.0.1:1/x"],
        ["run", "--source", "test://", "--sink", "mqtt://me:12/hunter@127.0.0.1/t"],
        ["run", "--source", "test://", "--sink", "mqtt:/me:hunter@127.0.0.1/t"],
        ["run", "--source", "test://", "--sink", "MQTTX://me:hunter@127.0.0.1/t"],
        ["run", "--source", "test://", "--live", "me:hunter@127.0.0.1:0"],
    ],
)
def test_a_usage_error_does_not_show_a_password(fails, arguments):
    said = fails(*arguments)
    assert re.search("error: ", said)
    assert leaks(said, pieces=("hunter", "ter@", "ter'", "12/")) == []


def test_an_unexpected_exception_does_not_show_a_password():
    script = (
        "import sys\n"
        "from edgeclf_runtime.__main__ import main\n"
        "from edgeclf_runtime.commands.dispatch import COMMANDS\n"
        "def fail(arguments): raise RuntimeError('cannot open ' + arguments.source + '\\n\\x1b]0;title\\x07')\n"
        "COMMANDS['run'] = fail\n"
        "main(sys.argv[1:], 'x.edge')"
    )
    command = [sys.executable, "-c", script, "run", "--source", "rtsp://admin:hun ter@host/x"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    )
    err = process.communicate()[1].decode("utf-8")
    assert "RuntimeError: cannot open rtsp://***@host/x" in err
    assert leaks(err, pieces=("hun ter", "admin", "\x1b")) == []
