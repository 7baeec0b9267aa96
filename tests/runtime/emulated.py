"""A pytest plugin for a slow emulated processor: skips each test as soon as it starts a Python program.

Such a program takes ten seconds to import OpenCV there.  EDGECLF_TEST_WHOLE=1 runs these tests too.
"""

import os
import subprocess
import sys

import pytest


class Popen(subprocess.Popen):
    def __init__(self, args, *more, **options):
        program = args if isinstance(args, (str, bytes)) else args[0]
        if os.fsdecode(program) == sys.executable:
            pytest.skip("starting Python programs takes long on an emulated processor")
        super().__init__(args, *more, **options)


if not os.environ.get("EDGECLF_TEST_WHOLE"):
    subprocess.Popen = Popen
