import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest

import edgeclf_runtime
from edgeclf_runtime import __version__
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.commands.info import BundleInfo
from edgeclf_runtime.commands.parser import _terminal_width, make_parser
from tests.support.pictures import encode, noise, png_bomb
from tests.support.sealing import NONE_ALLOWED, flip_byte, rename_labels, reseal
from tests.support.starting import WAIT_S, output_of, start
from tests.support.video_files import avi


@pytest.fixture
def video(tmp_path):
    """A video of one minute."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 16))
    for number in range(600):
        writer.write(np.full((16, 32, 3), number % 256, np.uint8))
    writer.release()
    return path


@pytest.mark.slow
def test_a_video_of_any_name_is_read_where_python_has_no_locale(bundle, video):
    video.rename(video.parent / "Für 1.avi")
    arguments = ("run", "--source", video.parent / "Für 1.avi", "--frames", "1")
    code, out, err = output_of(start(bundle, *arguments, environment={"LC_ALL": "C"}))
    assert (code, out.count("\n"), "1 frames classified" in err) == (0, 1, True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_with_its_summary(bundle, video, number):
    process = start(bundle, "run", "--source", video, "--policy", "latest", "--json")
    assert json.loads(process.stdout.readline().decode("utf-8"))["label"]
    process.send_signal(number)
    code, out, err = output_of(process)
    assert code == 128 + number
    assert all(json.loads(line)["label"] for line in out.splitlines())
    assert " frames classified, " in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.slow
def test_systemd_is_notified_when_a_run_is_ready_alive_and_stopping(bundle, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WAIT_S)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        process = start(bundle, "run", "--source", "test://", "--quiet", environment=environment)
        said = []
        while "READY=1" not in "".join(said) or said.count("WATCHDOG=1") < 3:
            said.append(systemd.recv(4096).decode())
        process.terminate()
        assert output_of(process)[0] == 143
        while "STOPPING=1" not in said:
            said.append(systemd.recv(4096).decode())


@pytest.mark.slow
def test_a_run_whose_reader_has_gone_ends_quietly(bundle, video):
    process = start(bundle, "run", "--source", video)
    assert b"age" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(WAIT_S) == 0
    err = process.stderr.read().decode("utf-8")
    process.stderr.close()
    assert "Traceback" not in err
    assert "Broken" not in err


@pytest.mark.slow
def test_a_full_disk_is_a_one_line_error(bundle, video):
    with open("/dev/full", "wb") as full:
        process = start(bundle, "run", "--source", video, stdout=full)
        code, _, err = output_of(process)
    assert code == 1
    assert err.splitlines()[-1] == "error: [Errno 28] No space left on device"
    assert "Traceback" not in err
    assert "ignored" not in err


def test_a_bundle_can_be_an_argument_too(bundle):
    command = [sys.executable, "-m", "edgeclf_runtime", "info", str(bundle), "--json"]
    assert json.loads(subprocess.check_output(command).decode("utf-8"))["verified_files"] > 10


def test_help_answers_without_loading_anything():
    code = "import sys; from edgeclf_runtime.__main__ import main\ntry: main(['--help'])\nfinally: print(sorted(sys.modules))"
    out = subprocess.check_output([sys.executable, "-c", code]).decode("utf-8")
    assert "classify frames until the source ends" in out
    assert "'numpy'" not in out
    assert "'cv2'" not in out


STARTING = (
    "__main__ commands commands.parser device device.process_secrets errors text text.redaction text.secret_patterns "
    "text.stdio text.terminal"
)
SLOW_TO_IMPORT = (
    "base64 ipaddress logging numpy pathlib shutil signal subprocess traceback typing unicodedata urllib.parse"
)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["nonsense"]])
def test_a_start_without_a_command_imports_few_modules(bundle, words):
    done = subprocess.run(
        # Verbose, and without this machine's site-packages, whose *.pth files may import anything.
        [sys.executable, "-I", "-S", "-v", str(bundle), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    imported = set(re.findall(r"^import '?([\w.]+)", done.stderr.decode("utf-8"), re.MULTILINE))
    own = {name for name in imported if name.startswith("edgeclf_runtime")}
    assert own == {"edgeclf_runtime." + name for name in STARTING.split()}
    assert "argparse" in imported
    assert not imported & set(SLOW_TO_IMPORT.split())


def test_help_compiles_no_regular_expression_of_the_runtime():
    program = (
        "import re, sys; ours = []; original = re._compile\n"
        "def compile_and_note(pattern, flags):\n"
        "    caller = sys._getframe(2).f_globals['__name__']\n"
        "    ours.extend([caller] if caller.startswith('edgeclf_runtime') else [])\n"
        "    return original(pattern, flags)\n"
        "re._compile = compile_and_note\n"
        "from edgeclf_runtime.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(ours)\n"
        "from edgeclf_runtime.text.redaction import redact; redact('a=b'); print(ours)"
    )
    out = subprocess.check_output([sys.executable, "-c", program]).decode("utf-8")
    assert out.splitlines()[-2:] == ["[]", "['edgeclf_runtime.text.secret_patterns']"]


@pytest.mark.parametrize("words", [[], ["--help"], ["nonsense"], ["ru"], ["-x", "run"]])
@pytest.mark.parametrize("bundle_argument", [None, "pets.edge"])
def test_a_parser_for_one_command_line_says_what_the_whole_parser_says(words, bundle_argument, capsys):
    commands = next(action for action in make_parser()._actions if action.dest == "name").choices
    for line in [words, *[[name, *words] for name in commands]]:
        said = []
        for argv in (None, line):
            try:
                end = vars(make_parser(bundle_argument, argv).parse_args(line))
            except SystemExit as exit:
                end = exit.code
            said.append((end, capsys.readouterr()))
        assert said[0] == said[1]


@pytest.mark.parametrize("columns", ["", "0", "-5", "60", "wide", "\u00b2"])
def test_the_help_is_as_wide_as_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert _terminal_width() == shutil.get_terminal_size().columns


@pytest.mark.parametrize("confidence", [None, {"coverage": 1.0, "precision": 1.0, "images": 30}])
def test_a_models_lines_fit_80_columns_whatever_was_measured(bundle, confidence):
    opened = open_bundle(bundle)
    metrics = dict({} if confidence is None else {"confidence": confidence}, accuracy=1.0, images=100000)
    model = opened.models[0]._replace(name="int8-tensorrt", temperature=0.12345, threshold=0.123456, metrics=metrics)
    lines = list(BundleInfo(opened)._lines(model))
    assert lines[2].endswith("threshold 0.1235" + ("" if confidence is None else ": keeps 100.0%, 100.0% right"))
    assert max(map(len, lines)) <= 80


def test_info_shows_what_the_bundle_holds(cli, bundle):
    code, out, _ = cli("info")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert code == 0
    for text in [manifest["name"], "every size and sha256 as in the manifest"] + manifest["labels"]:
        assert text in out
    assert max(map(len, out.splitlines())) <= 80
    for model in manifest["models"]:
        shares = model["metrics"]["confidence"]
        assert (
            "threshold {:.4f}: keeps {:.1%}, {:.1%} right".format(
                model["threshold"], shares["coverage"], shares["precision"]
            )
            in out
        )
    facts = json.loads(cli("info", "--json")[1])
    assert [model["name"] for model in facts["models"]] == [model["name"] for model in manifest["models"]]
    assert facts["models"][0]["size"] == (bundle / facts["models"][0]["file"]).stat().st_size


@pytest.mark.slow
def test_selftest_passes_with_0(cli):
    code, out, err = cli("selftest", "--json", "--threads", "1")
    assert (code, err) == (0, "")
    assert json.loads(out)["passed"] is True


@pytest.mark.slow
def test_selftest_fails_with_3(cli, copied):
    reseal(copied, lambda manifest: [model.update(tolerances=NONE_ALLOWED) for model in manifest["models"]])
    code, out, err = cli("selftest", bundle=copied)
    assert code == 3
    assert out.startswith("FAIL: ")
    assert err.startswith("error: a model failed its golden images on this machine")


def test_selftest_without_a_backend_is_an_error(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, err = cli("selftest", "--backend", "onnxruntime")
    assert code == 1
    assert "-m pip install onnxruntime" in out
    assert "error: no model runs on this machine" in err


def test_without_onnxruntime_and_openvino_opencv_classifies(cli, photos, monkeypatch):
    for library in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, library, None)
    code, out, _ = cli("classify", "--json", photos / "plain.png")
    assert code == 0
    assert (json.loads(out)["model"], json.loads(out)["backend"]) == ("fp32", "opencv")


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_folder_gives_the_same_labels_in_the_same_order_by_any_number_of_threads(cli, bundle, threads):
    code, out, _ = cli("run", "--source", bundle / "golden", "--json", "--threads", threads)
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    with Classifier.open(bundle, threads=1) as classifier:
        expected = [(path.name, classifier.classify(path).label) for path in sorted((bundle / "golden").glob("*.png"))]
    assert [(line["name"], line["label"]) for line in lines] == expected


@pytest.mark.slow
def test_bench_prints_a_row_for_each_stage(cli):
    code, out, _ = cli("bench", "--repeat", "3", "--warmup", "1", "--threads", "1")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[:5]] == [
        "stage",
        "preprocess",
        "inference",
        "postprocess",
        "total",
    ]
    assert "machine" in json.loads(cli("bench", "--repeat", "3", "--json")[1])


def test_every_photograph_that_a_user_would_expect_to_work_works(cli, photos):
    code, out, err = cli("classify", "--model", "fp32", *sorted(photos.iterdir()))
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 7


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "cut.jpg",
            encode(".jpg", noise(64, 48))[:-9],
            "the JPEG is truncated (it has no end marker); replace or remove it",
        ),
        (
            "text.jpg",
            b"not a photograph\n",
            "not an image (JPEG, PNG, BMP, WebP or TIFF was expected); replace or remove it",
        ),
        (
            "bomb.png",
            png_bomb(10000, 6000),
            "10000 x 6000 is 60.0 megapixels, more than the 50 allowed; shrink the image",
        ),
        ("empty \u00fc.png", b"", "the file is empty; replace or remove it"),
    ],
)
def test_a_file_that_is_not_a_valid_image_is_a_one_line_error(cli, tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    code, out, err = cli("classify", tmp_path / name)
    assert (code, out) == (1, "")
    assert err == f"error: {tmp_path / name}: {message}\n"


def test_files_after_one_that_is_not_an_image_are_classified_too(cli, photos, tmp_path):
    (tmp_path / "text.jpg").write_bytes(b"not a photograph\n")
    code, out, err = cli("classify", photos / "plain.png", tmp_path / "text.jpg", photos / "plain.png")
    assert code == 1
    assert len(out.splitlines()) == 2
    assert err.startswith(f"error: {tmp_path / 'text.jpg'}: not an image")


@pytest.mark.slow
def test_a_folder_and_a_pattern_are_classified_in_natural_order(cli, tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("shot10.png", "shot2.png", "other.png", "below/deep.png", "-v.png"):
        (tmp_path / name).write_bytes(encode(".png", noise(64, 48)))
    (tmp_path / "notes.txt").write_text("no image, and not called one")
    code, out, err = cli("classify", "--json", tmp_path, tmp_path / "other.png", tmp_path / "shot*.png")
    assert (code, err) == (0, "")
    found = [os.path.basename(json.loads(line)["image"]) for line in out.splitlines()]
    assert found == ["-v.png", "other.png", "shot2.png", "shot10.png", "other.png", "shot2.png", "shot10.png"]
    deep = [json.loads(line)["image"] for line in cli("classify", "--json", tmp_path / "**" / "*.png")[1].splitlines()]
    assert deep.count(str(tmp_path / "below" / "deep.png")) == 1


def test_a_folder_and_a_pattern_without_an_image_are_errors_and_the_rest_is_classified(cli, photos, tmp_path):
    (tmp_path / "none").mkdir()
    code, out, err = cli("classify", tmp_path / "none", tmp_path / "x*.png", photos / "plain.png")
    assert (code, out.count("\n")) == (1, 1)
    holds_none = " holds no image (JPEG, PNG, BMP, WebP or TIFF was expected)"
    assert err.splitlines() == [
        f"error: {tmp_path}/none{holds_none}; subfolders are not read; for them, give {tmp_path}/none/*/*",
        f"error: {tmp_path}/x*.png{holds_none}",
    ]


@pytest.mark.slow
def test_files_whose_names_look_like_options_are_read(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-quiet.png").write_bytes(encode(".png", noise(64, 48)))
    avi(tmp_path / "--video.avi", 2)
    assert cli("classify", "-quiet.png")[0] == 0
    assert cli("run", "--source", "--video.avi", "--quiet")[0] == 0
    assert cli("run", "--source", "-quiet.png", "--quiet")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2026-11-28T10:15:00.avi", "user:word@host.avi", "C:\\video.avi", "two\nlines.avi"])
def test_a_run_of_a_video_with_a_colon_in_its_name_says_nothing_of_addresses(cli, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    avi(tmp_path / name, 2)
    code, out, err = cli("run", "--source", name, "--json")
    assert (code, [json.loads(line)["position_s"] for line in out.splitlines()]) == (0, [0, 0.02])
    assert [line.split(" on ")[0] for line in err.splitlines()][1:] == ["2 frames classified, 0 dropped, 0 unreadable"]


@pytest.mark.slow
def test_a_run_of_a_video_that_was_cut_off_keeps_its_results_and_ends_with_1(cli, tmp_path):
    data = avi(tmp_path / "whole.avi", 20).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: data.index(b"00dc", data.index(b"movi")) + 2000])
    code, out, err = cli("run", "--source", tmp_path / "cut.avi", "--json", "--sink", tmp_path / "v.avi")
    count = len(out.splitlines())
    assert code == 1
    assert 3 < count < 20
    assert f"{count} frames classified, 0 dropped, {20 - count} unreadable" in err
    assert f"error: {tmp_path}/cut.avi ended after {count} of 20 frames: the file is truncated" in err
    assert cv2.VideoCapture(str(tmp_path / "v.avi")).get(cv2.CAP_PROP_FRAME_COUNT) == count


def options_of_one_value():
    """Each command's options with one value, and a valid value."""
    parser = make_parser("a.edge")
    commands = next(action for action in parser._actions if action.dest == "name").choices
    for name, command in sorted(commands.items()):
        for action in command._actions:
            if action.option_strings and action.nargs is None and type(action).__name__ != "_AppendAction":
                yield name, action.option_strings[0], next(filter(lambda value: is_taken(action, value), VALUES))


VALUES = ("1", "0.5", "0,0,8,8", "8x8", "auto", "best", "180", "90", "debug", "127.0.0.1", "MJPG", "a=1", "learn")


def is_taken(action, value):
    try:
        found = action.type(value) if action.type else value
    except (argparse.ArgumentTypeError, ValueError):
        return False
    return action.choices is None or found in action.choices


@pytest.mark.parametrize(("command", "option", "value"), list(options_of_one_value()))
def test_an_option_that_is_given_twice_is_a_usage_error_and_not_the_last_of_them(cli, command, option, value):
    needed = {"run": ["--source", "x"], "classify": ["x"]}.get(command, []) if option != "--source" else []
    code, out, err = cli(command, *needed, option, value, option + "=" + value)
    assert (code, out) == (2, "")
    what = "a process reads one source" if option == "--source" else "one value was expected"
    assert f"argument {option}: it is given more than once; {what}" in err


def test_a_damaged_bundle_is_a_one_line_error(cli, copied):
    flip_byte(copied / "golden" / "000.png", 50)
    for arguments in (["info"], ["selftest"], ["classify", "a.png"], ["run", "--source", "a.avi"], ["bench"]):
        code, out, err = cli(*arguments, bundle=copied)
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert err.endswith(
            "golden/000.png was changed (its sha256 differs from the manifest's); "
            "copy the bundle again from where it was made\n"
        )


@pytest.mark.slow
def test_top_k_and_threshold_decide_what_is_said(cli, photos):
    image = photos / "plain.png"
    top = json.loads(cli("classify", "--json", "--top-k", "99", image)[1])["top"]
    assert len(top) == len(json.loads(cli("info", "--json")[1])["labels"])
    assert len(json.loads(cli("classify", "--json", "--top-k", "1", image)[1])["top"]) == 1
    assert json.loads(cli("classify", "--json", "--threshold", "1", image)[1])["label"] == "unknown"
    assert json.loads(cli("classify", "--json", "--threshold", "0", image)[1])["label"] == top[0]["label"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "  classify "),
        (["fly"], "invalid choice: 'fly'"),
        (["run"], "--source"),
        (["run", "--source", "x", "--frames", "0"], "--frames: '0' is not a whole number of 1 or more"),
        (["run", "--source", "x", "--frames", "1.5"], "--frames: '1.5' is not a whole number of 1 or more"),
        (["classify", "x", "--threshold", "2"], "--threshold: '2' is not a number from 0 to 1"),
        (["classify", "x", "--threshold", "half"], "--threshold: 'half' is not a number from 0 to 1"),
        (["classify", "x", "--threshold", "nan"], "--threshold: 'nan' is not a number from 0 to 1"),
        (["bench", "--repeat", "-1"], "--repeat"),
    ],
)
def test_a_usage_error_ends_with_2_and_names_the_argument(cli, arguments, message):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_name_that_is_not_there_is_an_error_with_those_that_are(cli, photos):
    code, _, err = cli("classify", "--model", "fp8", photos / "plain.png")
    assert (code, "it holds" in err) == (1, True)
    code, _, err = cli("classify", "--backend", "abacus", photos / "plain.png")
    assert (code, "use --backend onnxruntime" in err) == (1, True)


@pytest.mark.parametrize("library", ["numpy", "cv2"])
def test_a_library_that_is_missing_is_an_error_that_says_how_to_install_it(cli, photos, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    code, _, err = cli("classify", photos / "plain.png")
    assert code == 1
    assert "sudo apt-get install python3-numpy python3-opencv" in err


def test_a_run_over_a_folder_writes_a_line_for_each_image_and_says_what_it_left_out(cli, photos, caplog):
    (photos / "broken.jpg").write_text("no image")
    (photos / "notes.txt").write_text("not called an image")
    code, out, err = cli("run", "--source", photos, "--json", "--model", "fp32")
    assert code == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 7
    assert err.splitlines()[-1] == "7 frames classified, 0 dropped, 1 unreadable"
    assert "broken.jpg: not an image" in caplog.text


@pytest.mark.slow
def test_a_run_stops_after_the_frames_that_were_asked_for(cli, video):
    code, out, err = cli("run", "--source", video, "--frames", "3")
    assert code == 0
    assert [int(line.split()[0]) for line in out.splitlines()] == [0, 1, 2]
    assert err.splitlines()[-1] == "3 frames classified, 0 dropped, 0 unreadable"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "data"), [("notes.txt", b"hello\n" * 100), ("video.mp4", b"\0\1\2\3" * 500)])
def test_a_source_that_is_not_a_video_is_a_one_line_error(cli, tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    code, out, err = cli("run", "--source", tmp_path / name)
    assert (code, out) == (1, "")
    assert err == f"error: {tmp_path / name} cannot be opened: OpenCV cannot read it; expected a video or an image\n"


@pytest.mark.slow
def test_labels_are_printed_whatever_the_terminal_can_show(copied, photos):
    rename_labels(copied, lambda number: f"Geh\u00e4use \u4e2d {number}")
    for arguments, shown in (([], "Geh\\xe4use \\u4e2d"), (["--json"], "Geh\\u00e4use \\u4e2d")):
        process = start(copied, "classify", photos / "plain.png", *arguments, environment={"PYTHONIOENCODING": "ascii"})
        code, out, _ = output_of(process)
        assert code == 0
        assert shown in out


def test_the_version_is_the_runtimes(cli):
    assert cli("--version")[:2] == (0, __version__ + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["json", "argparse", "numpy", "logging"])
def test_the_installed_runtime_imports_nothing_from_the_working_folder(bundle, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('planted')")
    home = os.path.dirname(os.path.dirname(edgeclf_runtime.__file__))
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeclf_runtime", "selftest", str(bundle), "--model", "fp32"],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    code, _, err = output_of(process)
    assert (code, "planted" in err) == (0, False), err
