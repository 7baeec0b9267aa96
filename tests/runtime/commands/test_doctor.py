import json
import os
import signal
import subprocess
import sys

import pytest

from edgeclf_runtime.commands.doctor.checks import Check
from edgeclf_runtime.commands.doctor.report import DoctorReport, doctor
from edgeclf_runtime.commands.doctor.system import check_cache
from tests.support.boards import orin, write
from tests.support.processes import becomes_true, ends
from tests.support.starting import WAIT_S, output_of

pytestmark = pytest.mark.slow


NAMES = [
    "edgeclf",
    "board",
    "processors",
    "python",
    "numpy",
    "opencv",
    "csi camera",
    "video decoding",
    "cuda",
    "tensorrt",
    "onnxruntime",
    "openvino",
    "camera",
    "decoders",
    "cache",
    "clock",
    "memory",
    "shared memory",
    "power mode",
    "throttling",
]


def test_this_machine_is_examined_from_top_to_bottom(bundle):
    report = doctor(str(bundle))
    assert {check.name for check in report.checks} >= set(NAMES) | {"bundle"}
    found = {check.name: check for check in report.checks}
    for name in ("python", "numpy", "opencv", "onnxruntime", "bundle"):
        assert found[name].status == "ok", found[name]
    assert any(" on " in name and check.status == "ok" for name, check in found.items())
    assert found["numpy"].found == __import__("numpy").__version__
    assert found["opencv"].found.startswith(__import__("cv2").__version__ + ", with")
    assert json.loads(json.dumps(report.to_dict()))["passed"] == report.passed


def test_without_a_bundle_only_the_machine_is_examined():
    assert list(dict.fromkeys(check.name for check in doctor().checks)) == NAMES


def test_a_machine_without_any_folder_for_temporary_files_is_examined(bundle):
    if subprocess.call(["unshare", "-m", "true"], stderr=subprocess.DEVNULL) != 0:
        pytest.skip("a mount namespace needs root")
    # The bundle may lie in one of them.
    shut = [path for path in ("/tmp", "/var/tmp", "/usr/tmp", "/dev/shm") if os.path.isdir(path)]
    shut = [path for path in shut if not os.path.realpath(str(bundle)).startswith(os.path.realpath(path) + "/")]
    script = "mount --make-rprivate / && " + "".join(f"mount -t tmpfs -o ro tmpfs {path} && " for path in shut)
    command = ["unshare", "-m", "sh", "-c", script + 'cd /proc && exec "$@"', "sh", sys.executable, str(bundle)]
    environment = dict(os.environ, TMPDIR="/nonexistent", HOME="/proc/nowhere")
    process = subprocess.Popen(
        [*command, "doctor", "--json"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, out, err = output_of(process)
    assert "Traceback" not in err, err
    found = {check["name"]: check for check in json.loads(out)["checks"]}
    for name in ("numpy", "opencv", "onnxruntime", "bundle"):
        assert found[name]["status"] == "ok", found[name]


def test_a_doctor_loads_no_library_that_could_take_it_along():
    code = "import sys; from edgeclf_runtime.commands.doctor.report import doctor; doctor(sys.argv[1]); print(sorted(sys.modules))"
    out = subprocess.check_output([sys.executable, "-c", code, "/nowhere.edge"]).decode("utf-8")
    for name in ("numpy", "cv2", "onnxruntime", "tensorrt"):
        assert f"'{name}'" not in out


def test_ctrl_c_leaves_no_child_behind(tmp_path):
    source = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    write(tmp_path, {"site/numpy.py": source})
    code = "import sys; sys.path.insert(0, sys.argv[1]); from edgeclf_runtime.commands.doctor.report import doctor; doctor()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "site")],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pid = tmp_path / "pid"
    assert becomes_true(lambda: pid.exists() and pid.read_text())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WAIT_S)
    assert ends(pid.read_text())


def test_the_report_is_a_table_that_fits_the_terminal(tmp_path):
    report = doctor(root=str(orin(tmp_path)))
    plain = report.text().splitlines()
    assert {line[9 : 9 + 5] for line in plain if line.startswith("ok")} >= {"board", "pytho"}
    assert "\033" not in str(report)
    # A path has no place to break.
    assert [line for line in report.text(width=80).splitlines() if len(line) > 80 and " " in line.strip()] == []
    assert "\033[32mok     \033[0m  board" in report.text(color=True)
    assert " warning" in plain[-1]


def test_the_report_fails_by_a_failure_and_not_by_a_warning(tmp_path):
    report = doctor(root=str(tmp_path))
    assert "warning" in [check.status for check in report.checks]
    assert report.passed == all(check.status != "fail" for check in report.checks)
    failed = report._replace(checks=(check_cache("/proc/edgeclf"),))
    assert not failed.passed


def test_findings_contain_no_terminal_codes_except_the_reports_own_colors():
    report = DoctorReport((Check("disk", "ok", "\x1b[31mred\x9b\nsecond\u202e", "\x1b]0;x\x07"),))
    text = report.text(color=True).replace("\033[32m", "").replace("\033[0m", "")
    assert all(line.isprintable() for line in text.split("\n"))
    assert "\\x1b[31mred\\x9b" in text
