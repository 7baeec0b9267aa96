"""Checks that every command and option of deploy/README.md works on a device, word for word.

    sudo python3 benchmarks/device_guide/device_page.py NAME.edge /usr/bin/python3 VENV/bin/python3 --keep FOLDER

Method: the words are read from the page: its blocks of code, the inline code in its tables and its prose.  Each is run
in the place that device_place.py makes, as part of a command line of device_inputs.py or device_outputs.py, by every interpreter that is
given, which is ``python3`` there and finds nothing of edgeclf but the bundle.  A run without an end gets SIGTERM when it
has shown what it must, and must end with 143 within STOP_S.  Words that no case runs, and cases whose words the page
does not have, count as failures: the two cannot drift apart.  The service is installed, stopped and removed under a
real systemd, by Debian's Python.  ``--keep`` keeps what each command printed, to be read.  Needs root, and what
device_place.py names.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from device_case import NOT_RUN, TERM, Case  # noqa: E402
from device_inputs import input_cases  # noqa: E402
from device_outputs import output_cases  # noqa: E402
from device_place import ISOLATED, MEMORY, PATH, SECRET, SYSTEM_PYTHON, fill, make_place, reason_to_skip, usb_camera  # noqa: E402
from device_service import walk_service  # noqa: E402

PAGE = HERE.parents[1] / "deploy" / "README.md"
WAIT_S, STOP_S = 90, 2.0
# Inline code that is a command, an option, a variable or an address; the rest names files, fields and elements.
TO_RUN = re.compile(r"--?[a-z]|python3 |[A-Z]+(_[A-Z]+)+$|PYTHONPATH=|[a-z0-9]+://|/dev/v|<&-|(un)?install-|'photos")
COMMANDS = ("doctor", "info", "selftest", "classify", "run", "build", "bench", "report")
# Frames after the first five.
LONG = re.compile(r"((?:^(?: +\d+  |\{\"frame\").*\n){5})(?:^(?: +\d+  |\{\"frame\").*\n)+", re.MULTILINE)
# What cannot be run here, and why.
NOT_HERE = {
    "csi://": "names the scheme",
    "gst://": "names the scheme",
    "rtsp://": "names the scheme",
    "v4l2-ctl -L": "another program's",
    "-3": "the end of a name",
    "--examples": "an option of edgeclf bundle",
    "--cpus": "Docker's",
    "--shm-size": "Docker's",
    "/dev/v4l/by-id": "a folder",
}
FACTS = """
import importlib.util, json, re, sys, cv2, numpy
libraries = {"onnxruntime": "onnxruntime", "openvino": "openvino", "paho": "paho", "tensorrt": "tensorrt"}
facts = {name: importlib.util.find_spec(module) is not None for name, module in libraries.items()}
facts.update(gstreamer=bool(re.search(r"GStreamer:\\s+YES", cv2.getBuildInformation())), opencv=True)
print(json.dumps([sys.version.split()[0], cv2.__version__, numpy.__version__, facts]))
"""


def main() -> None:
    """Run the cases by each interpreter, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge", type=Path)
    parser.add_argument("interpreters", nargs="+", metavar="PYTHON", type=Path, help="the python3 of a device")
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose command line this pattern finds")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what each command printed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if reason_to_skip():
        raise SystemExit(reason_to_skip())
    if "EDGECLF_PLACE" not in os.environ:
        environment = dict(os.environ, EDGECLF_PLACE="inside")
        os.execvpe(ISOLATED[0], [*ISOLATED, sys.executable, *sys.argv], environment)
    page = PAGE.read_text(encoding="utf-8")
    rows = [dict(row, status="FAILED") for row in drift(page)] if not arguments.only else []
    (nginx,) = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    with make_place(nginx):
        for interpreter in arguments.interpreters:
            rows += walk(arguments, interpreter.absolute(), page)
    report(rows, arguments.json)
    raise SystemExit(any(row["status"] == "FAILED" for row in rows))


def cases() -> Iterator[Case]:
    """Return all cases, in the page's order."""
    yield from input_cases()
    yield from output_cases()


def words_of(page: str) -> list[str]:
    """Return the words of a page that can be run: lines of its blocks of code, and its inline code, each once."""
    blocks = [text for language, text in re.findall(r"```(\w*)\n(.*?)```", page, re.DOTALL) if not language]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    found = [line for block in blocks for line in block.splitlines()]
    found += [text for text in inline if TO_RUN.match(text) or text.split()[0] in COMMANDS]
    return list(dict.fromkeys(found))


def drift(page: str) -> Iterator[dict[str, Any]]:
    """Yield a row for all words without a case, and for all cases whose words are not on the page."""
    flat = " ".join(page.replace("`", "").split())
    texts = {case.text for case in cases()}
    for text in words_of(page):
        if text not in texts and text not in NOT_HERE and not text.startswith("sudo "):
            yield {"python": "", "command": text, "exit": "", "why": "no case runs these words of the page"}
    for text in sorted(texts):
        if " ".join(text.split()) not in flat:
            yield {"python": "", "command": text, "exit": "", "why": "the page does not have these words"}


def walk(arguments: argparse.Namespace, python: Path, page: str) -> Iterator[dict[str, Any]]:
    """Run every case by one interpreter; yields a row for each."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        folder.chmod(0o755)  # for a user that no file knows
        fill(folder, arguments.bundle.resolve())
        usb = usb_camera(folder)
        (folder / "program.py").write_text(program(page))
        home = folder / "home"
        home.mkdir()
        environment = {"HOME": str(home), "PATH": f"{python.parent}:{PATH}:{MEMORY}", "LANG": "C.UTF-8"}
        environment["TMPDIR"] = MEMORY
        seen = subprocess.check_output(["python3", "-c", FACTS], env=environment, cwd=folder)
        version, opencv, _, facts = json.loads(seen)
        facts["shared"] = not python.is_relative_to("/root")
        label = f"{version}, OpenCV {opencv}"
        print(f"Python {label}: {python}", file=sys.stderr)

        def done(name: str, row: dict[str, Any]) -> dict[str, Any]:
            keep(arguments.keep, f"{version}-{name}", row)
            print("{status:8} {exit:>4} {command}  {why}".format(**row), file=sys.stderr, flush=True)
            return dict(row, python=label)

        for number, case in enumerate(cases()):
            if re.search(arguments.only, case.line.replace("{}", case.text)):
                variables = dict(environment, **(usb if case.usb else {}))
                yield done(f"{number:03}", run(case, facts, folder, variables))
        if (str(python) == SYSTEM_PYTHON and not arguments.only) or arguments.only == "systemd":
            for number, row in enumerate(walk_service(folder, page)):
                yield done(f"systemd-{number:02}", row)


def program(page: str) -> str:
    """Return the page's Python program for a generated camera, since there is no CSI camera here."""
    (text,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return text.replace('"csi://0"', '"test://"')


def run(case: Case, facts: dict[str, bool], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a case and return its row."""
    text = case.text
    for word, here in case.words.items():
        text = text.replace(word, here)
    line = case.line.replace("{}", text)
    lacking = bool(case.needs) and not facts[case.needs]
    code, shows = case.refused if lacking else (case.ends, case.shows)
    if code == NOT_RUN:
        row = {"command": line, "text": case.text, "exit": "", "status": "not here", "why": shows}
        return {**row, "stop_s": 0.0, "output": "", "beside": ""}
    output = folder / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(["bash", "-c", line], stdout=stream, stderr=stream, cwd=folder, env=environment)
        shown = wait(process, output, shows if code == TERM else None)
        beside = call(case.beside[0].replace("OUTPUT", str(output)), folder, environment) if not lacking else ""
        began = time.monotonic()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        status = end(process)
        stop_s = round(time.monotonic() - began, 2)
    said = output.read_text(encoding="utf-8", errors="replace")
    why = ""
    if status != code:
        why = f"exit code {status}, expected {code}"
    elif not shown or not re.search(shows, said, re.MULTILINE):
        why = f"does not show {shows!r}"
    elif not lacking and not re.search(case.beside[1], beside, re.MULTILINE):
        why = f"{case.beside[0]} shows {beside.strip()[:80]!r}"
    elif SECRET in said:
        why = "shows the password"
    elif code == TERM and stop_s > STOP_S:
        why = f"took {stop_s} s to stop"
    status_word = "FAILED" if why else "refused" if lacking or code in (1, 2) else "ok"
    if case.not_here and not why:
        status_word, why = "not here", case.not_here
    row = {"command": line, "text": case.text, "exit": status, "status": status_word, "why": why, "stop_s": stop_s}
    return {**row, "output": said, "beside": beside}


def wait(process: subprocess.Popen[bytes], output: Path, shows: str | None) -> bool:
    """Wait for a pattern in the output of a run without an end, or for the end; returns whether it came in time."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return shows is None
        said = output.read_text(encoding="utf-8", errors="replace")
        if shows is not None and re.search(shows, said, re.MULTILINE):
            return True
        time.sleep(0.05)
    return False


def end(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process that has been asked to end, as a shell shows it."""
    try:
        status = process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    return 128 - status if status < 0 else status


def call(line: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a line beside a run, and return what it prints."""
    if not line:
        return ""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environment, timeout=30, **both).stdout.decode()


def keep(folder: Path | None, name: str, row: dict[str, Any]) -> None:
    """Write what a command printed to a file of its own."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        head = "$ {command}\n[{status}, exit {exit}, {stop_s} s to stop] {why}\n".format(**row)
        beside = f"--- beside:\n{row['beside']}" if row["beside"] else ""
        said = LONG.sub(r"\1...\n", row["output"])
        (folder / f"{name}.txt").write_text(head + said + beside, encoding="utf-8")


def report(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print a table for people, or one line for machines."""
    pythons = list(dict.fromkeys(row["python"] for row in rows if row["python"]))
    counts = {python: {} for python in pythons}
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        cell = "{exit} {status}".format(**row)
        table.setdefault(row["command"], {})[row["python"]] = cell.strip()
        if row["python"]:
            of = counts[row["python"]]
            of[row["status"]] = of.get(row["status"], 0) + 1
    if as_json:
        keys = ("python", "command", "exit", "status", "why")
        print(json.dumps({"counts": counts, "rows": [{key: row[key] for key in keys} for row in rows]}))
        return
    print(" | ".join(pythons))
    for command, cells in table.items():
        print(command)
        print("    " + " | ".join(f"{cells.get(python, cells.get('', '')):14}" for python in pythons))
    for python in pythons:
        print(python, counts[python])
    for row in rows:
        if row["why"]:
            print("{python}: {command}: {status}: {why}".format(**row))


if __name__ == "__main__":
    main()
