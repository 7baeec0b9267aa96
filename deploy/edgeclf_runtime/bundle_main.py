"""Starts the runtime that lies beside this file: ``python3 NAME.edge COMMAND``.

The runtime verifies the whole bundle, but damaged code cannot be trusted to find itself
damaged: its files are compared with the manifest here, before the first of them is imported.
"""

import hashlib
import json
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def damaged_code():
    """Return the name of the first Python file that is not as the manifest says, or None."""
    try:
        with open(os.path.join(HERE, "manifest.json"), "rb") as stream:
            files = json.loads(stream.read().decode("utf-8"))["files"]
        for name in sorted(files):
            if name.endswith(".py"):
                with open(os.path.join(HERE, name), "rb") as stream:
                    if hashlib.sha256(stream.read()).hexdigest() != files[name]["sha256"]:
                        return name
    except OSError as error:
        return os.path.relpath(error.filename or HERE, HERE)
    except (AttributeError, KeyError, TypeError, ValueError):
        return "manifest.json"
    return None


def start():
    """Run the command line and return its exit code."""
    damaged = damaged_code()
    if damaged:
        return "error: {}: {} was changed or is missing; copy the bundle again from where it was made".format(
            HERE, damaged
        )
    # Byte code is no part of a bundle, and Python writes this file's before it runs a line of it.
    sys.dont_write_bytecode = True
    shutil.rmtree(os.path.join(HERE, "__pycache__"), ignore_errors=True)
    # Only the runtime is to be found here: no numpy.py that was dropped into the bundle.
    sys.path[0] = HERE
    import edgeclf_runtime  # noqa: F401

    del sys.path[0]
    from edgeclf_runtime.__main__ import main

    return main(bundle=HERE)


if __name__ == "__main__":
    sys.exit(start())
