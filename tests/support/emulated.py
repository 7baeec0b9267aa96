"""A pytest plugin for a slow emulated processor: a test that wants to start a Python program is skipped.

Such a program takes ten seconds to import OpenCV there.  EDGECLF_TEST_WHOLE=1 runs these tests too.
"""

import os
import subprocess
import sys

import pytest

REASON = "a Python program takes ten seconds to start on an emulated processor"
tried = []


class Popen(subprocess.Popen):
    """Starts everything but this Python, and remembers who tried to."""

    def __init__(self, args, *more, **options):
        program = args if isinstance(args, (str, bytes)) else args[0]
        if os.fsdecode(program) == sys.executable:
            tried.append(args)
            raise OSError(REASON)
        super().__init__(args, *more, **options)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if tried and report.failed:
        report.outcome, report.longrepr = "skipped", (*item.location[:2], REASON)
    if report.when == "teardown":
        tried.clear()


if not os.environ.get("EDGECLF_TEST_WHOLE"):
    subprocess.Popen = Popen
