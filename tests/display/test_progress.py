"""Progress: a bar on a terminal, plain lines in a log, nothing in a library, and never on stdout."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest

from edgeclf.display import progress


@pytest.fixture
def shown():
    progress.show_progress()
    yield
    progress.show_progress(False)


def test_a_library_says_nothing(capfd):
    assert list(progress.track(range(3), "counting", 3)) == [0, 1, 2]
    progress.say("hello")
    assert capfd.readouterr() == ("", "")


def test_a_log_gets_a_line_at_the_end(shown, capfd):
    assert list(progress.track(range(3), "counting", 3)) == [0, 1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("counting: 3 in ")
    assert err.count("\n") == 1


def test_a_log_gets_a_line_now_and_then(shown, capfd, monkeypatch):
    monkeypatch.setattr(progress, "_LOG_EVERY_S", 0.0)
    list(progress.track(range(3), "counting", 3))
    assert capfd.readouterr().err.splitlines()[:2] == ["counting: 1 of 3", "counting: 2 of 3"]


def test_the_lines_of_a_report_stay_aligned(shown, capfd):
    progress.say_report("label  train\ncat       12")
    progress.say("one message\nof two lines")
    assert capfd.readouterr().err == "label  train\ncat       12\none message\n  of two lines\n"


def test_work_that_fails_is_not_called_done(shown, capfd):
    def work():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(progress.track(work(), "counting", 2))
    assert capfd.readouterr().err == ""


def test_a_terminal_gets_one_bar_with_messages_above_it_and_stdout_stays_free():
    script = (
        "from edgeclf.display import progress as reporting\n"
        "reporting.show_progress()\n"
        "for number in reporting.track(range(3), 'counting', 3):\n"
        "    reporting.say(f'at {number}')\n"
        "    print(number)"
    )
    terminal, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=side, env=environment
    ) as process:
        os.close(side)
        seen = b"".join(read_terminal(terminal)).decode()
        assert process.stdout.read() == b"0\n1\n2\n"
    assert "counting" in seen
    assert "3/3" in seen
    assert "at 0" in seen


def read_terminal(descriptor):
    """Yield what is written to a terminal until its other side is closed."""
    # Linux then reports an error, not the end of the file.
    with contextlib.suppress(OSError):
        while chunk := os.read(descriptor, 4096):
            yield chunk
    os.close(descriptor)
