"""The examples, each run as its README shows it, with real images, generated cameras and a real broker."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

import edgeclf
from tests.support.brokers import WAIT_S, Broker, Listener
from tests.support.pages import ROOT, command_lines

EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))
CPP = EXAMPLES / "other_language.cpp"
NOTEBOOK = EXAMPLES / "from_photographs_to_bundle.ipynb"
# Small pictures and one range method: how accurate the notebook's files are is not tested here.
QUICKER = {
    "RUN, seed=0)": 'RUN, seed=0, backbone="test_efficientnet", weights="none", image_size=64, epochs=6)',
    "RUN, max_drop=0.02)": 'RUN, size=40, max_drop=0.5, method="percentile", flavors=("int8-cpu",))',
}
LINES = {re.search(r"examples/(\w+\.py)", line).group(1): line for line in command_lines(EXAMPLES / "README.md")}


@pytest.fixture
def place(bundle, digits, tmp_path):
    """A folder with a bundle, photographs and a video."""
    shutil.copytree(bundle, tmp_path / "pets.edge")
    for label in ("3", "5"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for path in sorted((digits / label).iterdir())[:4]:
            shutil.copy(path, tmp_path / "photos" / label)
    writer = cv2.VideoWriter(str(tmp_path / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for path in sorted((digits / "3").iterdir())[:5]:
        writer.write(cv2.imread(str(path)))
    writer.release()
    return tmp_path


def example(name, place, *more, **words):
    """Run an example's line of the README with other words for what is not here; returns what it printed."""
    line = LINES[name].replace("examples/", f"{EXAMPLES}/")
    for word, here in words.items():
        line = line.replace(word, here)
    line = re.sub(r"/dev/video0|rtsp://\S+", "test://", line)
    command = [sys.executable, *shlex.split(line)[1:], *more]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_lists_and_starts_every_example():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[`([\w.]+)`\]\(\1\)", text, re.MULTILINE) == [
        "classify_folder.py",
        "camera_to_mqtt.py",
        "your_own_loop.py",
        "several_cameras.py",
        "compare_int8_with_fp32.py",
        "test_with_fakes.py",
        CPP.name,
        NOTEBOOK.name,
    ]
    assert sorted(LINES) == PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_is_python_as_old_as_the_oldest_board_has(name):
    ast.parse((EXAMPLES / name).read_text(encoding="utf-8"), feature_version=(3, 6))


def test_a_folder_gives_a_csv_file_and_passes_over_a_damaged_image(place):
    (place / "photos/3/damaged.png").write_bytes(b"no image")
    printed = example("classify_folder.py", place)
    assert "damaged.png" in printed
    head, *rows = (place / "labels.csv").read_text().splitlines()
    assert head == "image,label,confidence"
    assert len(rows) == 8
    assert sum(row.split("/")[1] == row.split(",")[1] for row in rows) >= 6


def test_a_camera_publishes_its_first_label(place, tmp_path):
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    try:
        listener = Listener(broker.port)
        example("camera_to_mqtt.py", place, "--frames", "3", **{"mqtt://broker": f"mqtt://127.0.0.1:{broker.port}"})
        assert listener.next("line/4")["label"] in ("3", "5", "8")
        listener.close()
    finally:
        broker.process.kill()
        broker.process.wait(WAIT_S)


def test_ones_own_loop_writes_a_video_as_long_as_the_first(place):
    assert "5 frames" in example("your_own_loop.py", place)
    assert int(cv2.VideoCapture(str(place / "labeled.avi")).get(cv2.CAP_PROP_FRAME_COUNT)) == 5


def test_several_cameras_are_classified_and_one_that_is_missing_stops_none(place):
    printed = example("several_cameras.py", place, "missing.avi", "--frames", "4")
    assert printed.count("test://: 4 frames") == 2
    assert re.search(r"missing.avi: error: .+\n", printed)


def test_int8_and_fp32_are_compared(place):
    printed = example("compare_int8_with_fp32.py", place)
    assert re.search(r"labels agree on \d of 8 images", printed)
    assert re.search(r"fp32 +\d+\.\d ms\nint8-cpu +\d+\.\d ms", printed)


def test_the_tests_with_fakes_pass(place):
    printed = example("test_with_fakes.py", place, "-p", "no:cacheprovider", "-o", "addopts=-q")
    assert "3 passed" in printed


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(digits, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    shutil.copytree(digits, tmp_path / "photos")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        for call, quicker in QUICKER.items():
            cell.source = cell.source.replace(call, quicker)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [output["data"] for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == 3
    assert sum("text/html" in data for data in shown) == 7
    # Progress is one output below its cell.
    assert max(len(cell.get("outputs", ())) for cell in notebook.cells) == 2
    assert "accuracy" in "".join(data.get("text/html", "") for data in shown)
    assert (tmp_path / "pets.edge" / "manifest.json").is_file()


def test_the_notebook_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 6
    assert all(any(call in "".join(cell["source"]) for cell in code) for call in QUICKER)
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.fixture(scope="module")
def other_language(tmp_path_factory):
    """The compiled program in C++."""
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    for program in ("g++", "pkg-config"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing: apt-get install g++ pkg-config")
    found = subprocess.run(["pkg-config", "--cflags", "--libs", "opencv4"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("OpenCV's headers are missing: apt-get install libopencv-dev")
    folder = Path(openvino.__file__).parent
    library = next(folder.glob("libs/libopenvino.so.*"))
    program = tmp_path_factory.mktemp("cpp") / "other_language"
    options = ["-std=c++17", f"-I{folder}/include", f"-Wl,-rpath,{library.parent}"]
    subprocess.run(["g++", *options, CPP, "-o", program, *found.stdout.split(), library], check=True)
    return program


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed", [{}, {"resize": "stretch"}, {"resize": "letterbox"}, {"crop": 0.875}, {"color": "BGR"}], ids=str
)
def test_a_program_in_c_plus_plus_gives_edgeclfs_pixels_and_logits(other_language, run, tmp_path, changed):
    own = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("*.onnx")))
    facts = json.loads((own / "run.json").read_text())
    facts["preprocessing"].update(changed)
    (own / "run.json").write_text(json.dumps(facts))
    edgeclf.export_formats(own, golden=tmp_path / "golden")
    model = own / "model.fp32.onnx"
    done = subprocess.run([other_language, model, tmp_path / "golden"], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("\nsame as edgeclf\n"), done.stdout + done.stderr
    assert done.stdout.count("pixels differ by 0,") == 4


@pytest.mark.slow
def test_a_program_with_another_resize_is_found_out(other_language, run, tmp_path):
    edgeclf.export_formats(run, golden=tmp_path / "golden", output=tmp_path / "model.onnx")
    facts = json.loads((tmp_path / "golden/golden.json").read_text())
    facts["preprocessing"]["resize"] = "stretch"
    (tmp_path / "golden/golden.json").write_text(json.dumps(facts))
    command = [other_language, tmp_path / "model.onnx", tmp_path / "golden"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "not the same as edgeclf")
