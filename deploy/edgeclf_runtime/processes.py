"""Starting a module of this runtime as a process of its own."""

import os
import sys

# Only the runtime is to be found beside it: no numpy.py that was dropped there.
_START = (
    "import importlib, sys; sys.path[0] = sys.argv[1]; import edgeclf_runtime; del sys.path[0]; "
    "importlib.import_module('edgeclf_runtime.' + sys.argv[2]).main(*map(int, sys.argv[3:]))"
)


def runtime_command(module, *handles):
    """Return the command that calls a module's ``main`` with numbers, the handles that it inherits."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [sys.executable, "-B", "-c", _START, home, module, *map(str, handles)]
