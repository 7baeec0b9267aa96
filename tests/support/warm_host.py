"""Commands of the host, each in a fork of a process that has imported the libraries already.

A command that trains or exports imports torch, timm and lightning for five seconds.  A fork of a process that has
imported them, but nothing of ours, runs the command as ``python -m edgeclf`` does, with its own folder, environment,
arguments, output and exit code.
"""

import atexit
import gc
import glob
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

# The runtime first: it forbids ONNX Runtime to report to its maker.
LIBRARIES = ("edgeclf_runtime", "cv2", "lightning", "matplotlib", "onnx", "onnxruntime", "sklearn.metrics", "timm")


class WarmHost:
    """The process that has imported the libraries; ``run`` is as subprocess.run, for ``edgeclf`` and its words."""

    def __init__(self, environment):
        # Libraries read some variables as they are imported, such as how many threads to start.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm_host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
        )

    def run(self, words, cwd, environment):
        """Run a command in a folder; * in its words stands for files there, as in a shell."""
        found = [name for word in words for name in (sorted(glob.glob(word, root_dir=cwd)) if "*" in word else [word])]
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
            request = {"words": found, "cwd": str(cwd), "environment": environment}
            self._process.stdin.write(json.dumps({**request, "outputs": [out.name, err.name]}) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(words, code, out.read(), err.read())

    def close(self):
        """End the process."""
        self._process.communicate()


def main():
    """Run the command of each line of stdin in a fork, and print its exit code."""
    for name in LIBRARIES:
        __import__(name)
    assert_alone()
    gc.freeze()  # a collection would write to every object, and so copy all memory
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def assert_alone():
    """Fail if a library has started threads, which a fork would lack; jemalloc (pyarrow's) looks after its own."""
    names = [Path(path).read_text().strip() for path in glob.glob("/proc/self/task/*/comm")]
    assert len([name for name in names if not name.startswith("jemalloc")]) == 1, names


def run(words, cwd, environment, outputs):
    """Be ``python -m edgeclf`` with these words, and end."""
    for number, path in enumerate(["/dev/null", *outputs]):
        with open(path, "r+b") as stream:
            os.dup2(stream.fileno(), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0], sys.argv = cwd, ["edgeclf", *words]
    del sys.modules["edgeclf_runtime"]  # the command imports it again, since it sets variables
    code = 1
    try:
        runpy.run_module("edgeclf", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        # As Python ends, but for taking apart every library, which takes two seconds.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
