"""A bundle started as a user starts it."""

import os
import signal
import subprocess
import sys

WAIT_S = 60


def start(bundle, *arguments, **options):
    """Start a bundle as a user does: by itself, with no other edgeclf to be found."""
    systemd = ("NOTIFY_SOCKET", "INVOCATION_ID", "SYSTEMD_EXEC_PID")  # which may have started whoever runs the tests
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("PYTHON") and key not in systemd
    }
    environment.update(options.pop("environment", {}))
    return subprocess.Popen(
        [sys.executable, str(bundle)] + [str(argument) for argument in arguments],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        env=environment,
        # Whoever runs the tests in the background has switched Ctrl-C off, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def output_of(process):
    """The exit code, stdout and stderr of a process that ends by itself."""
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, (out or b"").decode("utf-8"), err.decode("utf-8")
