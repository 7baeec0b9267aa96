"""The host's command line in tests: the program, its commands, a quick training, and what an error must look like."""

import sys

import typer

from edgeclf import cli

PROGRAM = [sys.executable, "-m", "edgeclf"]
COMMANDS = sorted(typer.main.get_command(cli.app).commands)
QUICK = ["--backbone", "mobilenetv3_small_050", "--weights", "none", "--image-size", "64", "--epochs", "1"]


def refused(outcome, message, code=1):
    """Assert that a command ended with one error, which has the message, and printed nothing to stdout."""
    assert outcome[0] == code
    assert outcome[1] == ""
    assert "Traceback" not in outcome[2]
    error = outcome[2][outcome[2].index("error: ") :]
    assert message in error
    assert error.count("error: ") == 1
