"""Checks that a killed command leaves either the old output or the new one complete, and nothing else.

    python3 benchmarks/reliability/kills.py --trials 1000

Method: ``train``, ``quantize`` and ``bundle`` replace an output that exists (``--overwrite``), on scikit-learn's
handwritten digits.  Both outputs are known beforehand, by the hash of every name, mode, link and byte; training,
quantizing and bundling repeat to the byte (in quantize's report the measured latencies are set to 1, and its page is
its JSON, for pictures take seconds).  The process is
killed by SIGKILL,

- at every call that changes names or waits for the disk (rename, replace, link, exchange, mkdir, unlink, rmdir, fsync;
  ``exact``), once before and once after it.  So that each trial need not train again, the command runs up to where it
  begins to write and is forked there, once for each call;
- at moments drawn uniformly from the time that the writing takes (``writing``), from the same forks;
- at moments drawn uniformly from the time that the whole command takes (``whole``), each time from its start.

Rows: ``train``, ``quantize`` and ``bundle`` as on most file systems; ``journal`` is quantize where the run cannot be
exchanged (a program works in it, or its parent is not writable), and ``no exchange`` is train on a file system that
cannot exchange two names (NFS).  In those two the output is looked at after the next command has opened it, as they
promise no more; in the others at once.  After that the same command runs once more to its end: the output must be
the new one, and nothing hidden be left.  The run also holds files of the user, a link and a folder, which must survive.

The parent imports torch and edgeclf once and computes nothing, for a fork keeps none of a library's threads; each
command has one thread (OMP_NUM_THREADS).
"""

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from forks import Template, fork, wait

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

ROWS = ("train", "quantize", "bundle", "journal", "no exchange")
SIZE, IMAGES_PER_DIGIT = 32, 30
RESULTS = ("old", "new", "mixed")


def main():
    """Kill, look, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, metavar="N", help="kills in all, at least (1000)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--whole", type=int, default=20, metavar="N", help="of them, of each whole command (20)")
    parser.add_argument("--seed", type=int, default=0, help="changes the random moments")
    parser.add_argument("--folder", help="where to work, for another file system (a temporary folder)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    from edgeclf_runtime.device.machine import machine_facts

    import_all()
    with tempfile.TemporaryDirectory(prefix="kills.", dir=arguments.folder) as folder:
        kind = subprocess.check_output(["stat", "-f", "-c", "%T", folder], text=True).strip()
        rows = kill_all(Path(folder), arguments)
    if arguments.json:
        facts = {"seed": arguments.seed, "file_system": kind, "machine": machine_facts()}
        print(json.dumps({"benchmark": "kills", "kills": sum(row["kills"] for row in rows), "rows": rows, **facts}))
        return
    print(f"{'':<12} {'moment':<8} {'kills':>6} {'old':>6} {'new':>6} {'mixed':>6}  left over  calls  s")
    for row in rows:
        print(
            "{command:<12} {moment:<8} {kills:>6} {old:>6} {new:>6} {mixed:>6} {left:>10} {calls:>6}  {seconds:.0f}".format(
                **row
            )
        )


def import_all():
    """Import whatever the commands import, so that they need not do so in each trial."""
    for name in (
        "edgeclf.data.folder_update",
        "edgeclf.deployment.bundling",
        "edgeclf.evaluation.export",
        "edgeclf.quantization.quantize",
        "edgeclf.training.features",
        "edgeclf.training.loop.network",
        "edgeclf.training.train",
        "cv2",
        "lightning",
        "onnx",
        "onnxruntime.quantization",
        "safetensors.torch",
        "sklearn.datasets",
        "timm",
    ):
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)


def kill_all(folder, arguments):
    """Return a row for each command and kind of moment."""
    digits = folder / "digits"
    prepare(folder, digits)
    rows, draw = [], random.Random(arguments.seed)
    for name in arguments.rows:
        rows.append(kill_exactly(Command(name, folder, digits)))
        say(rows[-1])
    wanted = [name for name in ("train", "quantize", "bundle") if name in arguments.rows]
    for name in wanted:
        rows.append(kill_at_random(Command(name, folder, digits), "whole", arguments.whole, draw))
        say(rows[-1])
    left = max(0, arguments.trials - sum(row["kills"] for row in rows))
    for place, name in enumerate(wanted):
        trials = left // len(wanted) + (place < left % len(wanted))
        rows.append(kill_at_random(Command(name, folder, digits), "writing", trials, draw))
        say(rows[-1])
    return rows


def say(row):
    """Show progress on stderr."""
    print(json.dumps(row), file=sys.stderr, flush=True)


def write_digits(root):
    """Write a folder of class folders."""
    import cv2
    import numpy as np
    from sklearn.datasets import load_digits

    data = load_digits()
    for digit in (3, 5, 8):
        (root / str(digit)).mkdir(parents=True)
        for number, pixels in enumerate(data.images[data.target == digit][:IMAGES_PER_DIGIT]):
            image = cv2.resize((pixels * 15.9).astype(np.uint8), (SIZE, SIZE))
            cv2.imwrite(str(root / str(digit) / f"{number:03d}.png"), image)


def prepare(folder, digits):
    """Make a run that quantize and bundle start from, in a process of its own."""

    def make():
        import edgeclf

        write_digits(digits)
        train(digits, folder / "first", 0)
        edgeclf.export(folder / "first")
        with_user_files(folder / "first")

    wait(fork(make))


def with_user_files(run):
    """Put files, a link and a folder of a user's own into a run."""
    (run / "notes.txt").write_text("mine")
    (run / "notes").mkdir()
    (run / "notes" / "more.txt").write_text("mine too")
    (run / "latest").symlink_to("model.fp32.onnx")


def train(digits, output, seed, overwrite=False):
    """Train for an epoch."""
    import edgeclf

    options = edgeclf.TrainOptions(backbone="test_efficientnet", weights="none", image_size=SIZE, epochs=1, seed=seed)
    edgeclf.train(digits, output, options, overwrite=overwrite)


class Command:
    """A command that replaces an output: its old one, its new one, and how it runs."""

    def __init__(self, name, folder, digits):
        self.name, self._folder, self._digits = name, folder, digits
        self.home = folder / name.replace(" ", "-")
        self.home.mkdir(exist_ok=True)
        self.output = self.home / ("digits.edge" if name == "bundle" else "run")
        self.kept = folder / f"{self.home.name}.old"
        self.looks_later = name in ("journal", "no exchange")
        if not self.kept.exists():
            self._make_both()
        self.old, self.new = fingerprint(self.kept), fingerprint(folder / f"{self.home.name}.new")

    def _make_both(self):
        if self.name in ("quantize", "journal"):
            shutil.copytree(self._folder / "first", self.output, symlinks=True)
        wait(fork(lambda: self._run(0)))
        shutil.copytree(self.output, self.kept, symlinks=True)
        wait(fork(lambda: self._run(1)))
        shutil.copytree(self.output, self._folder / f"{self.home.name}.new", symlinks=True)

    def restore(self):
        """Let the old output stand there, and nothing else."""
        shutil.rmtree(self.home)
        self.home.mkdir()
        shutil.copytree(self.kept, self.output, symlinks=True)

    def _run(self, which, gate=None):
        """Run the command; ``gate`` is called where it begins to write."""
        import edgeclf
        from edgeclf.data import folder_update
        from edgeclf.deployment import bundling
        from edgeclf.quantization import outputs, quantize
        from edgeclf.training import train as training
        from edgeclf_runtime.files import stage

        outputs.time_files = lambda files, batch: [1.0 for _ in files]
        outputs.layer_times = lambda name, path, batch, layer_of: ()
        outputs.make_page = lambda report, histograms: report.to_json()
        if self.name == "journal":
            folder_update._can_be_exchanged = lambda folder: False
        if self.name == "no exchange":
            stage.exchange = refuse
        if gate:
            for module, place in ((training, "new_folder"), (bundling, "new_folder"), (quantize, "updated_folder")):
                setattr(module, place, gated(getattr(module, place), gate))
        if self.name in ("train", "no exchange"):
            train(self._digits, self.output, which, overwrite=True)
        elif self.name == "bundle":
            options = edgeclf.BundleOptions(targets=("x86-cpu",), golden=1 + which)
            edgeclf.bundle(self._folder / "first", self.output, options, overwrite=True)
        else:
            options = edgeclf.QuantizeOptions(
                size=12 + 6 * which, flavors=("int8-cpu", "fp16"), method="minmax", form="standard", max_drop=1
            )
            edgeclf.quantize(self.output, options, overwrite=True)

    def start(self):
        """Start the command that writes the new output; returns its process."""
        return fork(lambda: self._run(1))

    def template(self):
        """Return a Template of it."""
        return Template(lambda gate: self._run(1, gate))

    def look(self):
        """Return whether the output is the old one, the new one, or a mixture."""
        if self.looks_later:
            wait(fork(self._open))
        found = fingerprint(self.output)
        return "old" if found == self.old else "new" if found == self.new else "mixed"

    def _open(self):
        from edgeclf.training.runs import read_run

        read_run(self.output)

    def left_over(self):
        """Return the hidden names that are there."""
        return [str(path) for path in self.home.rglob(".*")]


def refuse(first, second):
    """Stand for a file system that cannot exchange names."""
    raise OSError(22, "Invalid argument")


def gated(function, gate):
    """Return a function that calls ``gate`` first."""

    def call(*args, **kwargs):
        gate()
        return function(*args, **kwargs)

    return call


def fingerprint(top):
    """Return the hash of every name, kind, mode and byte in a folder; "" if there is none."""
    if not top.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(top.rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(facts.st_mode) else b""
        name = f"{path.relative_to(top)} {os.readlink(path) if path.is_symlink() else ''}"
        line = [name, stat.filemode(facts.st_mode), hashlib.sha256(content).hexdigest()]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def kill_exactly(command):
    """Kill a command before and after each of its calls."""
    start, template = time.monotonic(), command.template()
    row = dict.fromkeys(("kills", *RESULTS, "left"), 0)
    command.restore()
    calls = template.go_on()
    if command.look() != "new" or command.left_over():
        raise SystemExit(f"{command.name} does not write the new output: {command.left_over()}")
    for number in range(1, calls + 1):
        for after in (False, True):
            command.restore()
            if template.go_on(number, after) is None:
                judge(command, template, row, f"{number} {'after' if after else 'before'}")
    template.close()
    return {
        "command": command.name,
        "moment": "exact",
        **row,
        "calls": calls,
        "seconds": round(time.monotonic() - start),
    }


def kill_at_random(command, moment, trials, draw):
    """Kill a command at random moments of the whole of it, or of its writing."""
    start = time.monotonic()
    template = command.template()
    row = dict.fromkeys(("kills", *RESULTS, "left"), 0)
    command.restore()
    begun = time.monotonic()
    if moment == "whole":
        wait(command.start())
    else:
        template.go_on()
    lasts_s = 1.1 * (time.monotonic() - begun)
    while row["kills"] < trials:
        command.restore()
        at_s = draw.uniform(0, lasts_s)
        if moment == "whole":
            pid = command.start()
            time.sleep(at_s)
            os.kill(pid, signal.SIGKILL)
            killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        else:
            killed = template.go_on(seconds=at_s) is None
        if killed:
            judge(command, template, row, f"{at_s:.3f} s")
    template.close()
    return {"command": command.name, "moment": moment, **row, "calls": 0, "seconds": round(time.monotonic() - start)}


def judge(command, template, row, moment):
    """Look at the output after a kill, run the command once more, and count."""
    row["kills"] += 1
    found = command.look()
    row[found] += 1
    finished = template.go_on()
    left = command.left_over()
    if finished == -1 or left or command.look() != "new":
        row["left"] += 1
    if found == "mixed" or finished == -1 or left:
        print(f"{command.name}, killed at {moment}: {found}, left {left}, next run {finished}", file=sys.stderr)


if __name__ == "__main__":
    main()
