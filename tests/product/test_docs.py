"""The documentation: its commands and programs are run, its messages are those of the code, and its site builds.

Commands run in one folder, page after page, as a reader would type them.  Cameras, brokers and ports that this machine lacks
are replaced by ones that it has.
"""

import html.parser
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

import edgeclf
import edgeclf_runtime.errors
from tests.conftest import write_digits
from tests.product.test_remedies import strings
from tests.support.brokers import WAIT_S, Broker
from tests.support.cameras import free_port
from tests.support.foreign import color_model
from tests.support.host_commands import PROGRAM
from tests.support.pages import ELSEWHERE, NOT_HERE, ROOT, blocks, command_lines, elsewhere, guides
from tests.support.warm_host import WarmHost

CAMERA = re.compile(r"csi://0|/dev/video[02]|'(?:http|gst)://[^']+'|rtsp://[^\s\"]+")
# Words that make a page's command quicker on small pictures: how accurate it is, and how long it takes, is not tested here.
_TRAINED, _QUANTIZED = "--image-size 64 --epochs 4", "--size 40 --method percentile --form standard --max-drop 0.5"
QUICKER = {
    "train": _TRAINED,
    "calibrate": "--size 40",
    "quantize": _QUANTIZED,
    "make": f"{_TRAINED} {_QUANTIZED}",
}
DEVICE_QUICKER = {"run": ("--frames", "5"), "report": ("--repeat", "3"), "bench": ("--repeat", "3")}
# Commands that replace their output.
OUTPUTS = {"audit", "augment", "train", "evaluate", "export", "import", "calibrate", "quantize", "bundle", "make"}
# Exit codes other than 0: no GPU is here, and doctor may find that something is missing.
CODES = {"build": (0, 1), "doctor": (0, 1)}
# Its host commands are started as a reader starts them; those of other pages are forks that have imported the libraries.
STARTED = ("README.md",)
LINES, WORDS = 130, 900


@pytest.fixture(scope="module")
def place(tmp_path_factory, request):
    """A reader's folder: photographs of two classes, others without a label, a street, and models of other programs."""
    folder = tmp_path_factory.mktemp("reader")
    write_digits(folder / "digits")
    # Labels that cannot be confused: what INT8 loses is another test's matter.
    for digit, label in (("3", "cat"), ("8", "dog")):
        (folder / "photos" / label).mkdir(parents=True)
        for number, path in enumerate(sorted((folder / "digits" / digit).iterdir()), 1):
            picture = cv2.imread(str(path))
            picture[:, :, 0 if label == "cat" else 2] = 255
            cv2.imwrite(str(folder / "photos" / label / f"{number}.jpg"), picture)
    shutil.copy(folder / "photos/cat/1.jpg", folder / "street.jpg")
    shutil.copytree(folder / "photos", folder / "photos-2024")
    (folder / "more").mkdir()
    for path in sorted((folder / "digits" / "5").iterdir())[:10]:
        shutil.copy(path, folder / "more")
    shutil.copytree(folder / "more", folder / "strangers")
    shutil.rmtree(folder / "digits")
    for name, props in (("resnet18.onnx", {}), ("best.onnx", {"names": "{0: 'cat', 1: 'dog'}", "imgsz": "[64, 64]"})):
        color_model(folder / name, size=64, props=props.items())
    (folder / "labels.txt").write_text("cat\ndog\n")
    write_video(folder / "video.avi", sorted((folder / "photos/cat").iterdir())[:5])
    return folder


def write_video(path, images):
    """Write a video of some images."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for image in images:
        writer.write(np.ascontiguousarray(cv2.imread(str(image))))
    writer.release()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """The address of a real broker."""
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    started = Broker(tmp_path_factory.mktemp("broker"))
    yield f"mqtt://127.0.0.1:{started.port}/"
    started.process.kill()
    started.process.wait(WAIT_S)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A reader's cache folder, which remembers the networks that earlier pages tried."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def warm(cache):
    """Runs host commands without their five seconds of imports."""
    host = WarmHost(reader_environment(cache))
    yield host
    host.close()


@pytest.fixture(scope="module")
def done():
    """The commands that ran before, on an earlier page."""
    return set()


def runnable(line, broker):
    """Return a page's command as this machine can run it, and in seconds."""
    line = CAMERA.sub("test://", line.replace("mqtt://broker/", broker)).replace("solar.edge", "pets.edge")
    line = re.sub(r"--live \d+", f"--live {free_port()}", line)
    line = re.sub(r" --password-file \S+| --(frames|repeat) \d+", "", line)
    line = re.sub(r"--epochs \d\d+", "--epochs 2", line.replace("--image-size 288", "--image-size 96"))
    line = re.sub(r"--count \d+", "--count 30", line.replace(" benchmarks/", f" {ROOT}/benchmarks/"))
    words = shlex.split(line)
    if words[0] == "edgeclf":
        added = QUICKER.get(words[1], "").split()
        quicker = [word for pair in zip(added[::2], added[1::2], strict=True) if pair[0] not in words for word in pair]
        if words[1:3] == ["quantize", "runs/first"] and "--data" in words:
            quicker += ["--flavor", "fp16"]  # one of the files shows that images which have moved are found
        if words[1] == "quantize" and "--calibration" in words:
            quicker += ["--flavor", "int8-cpu"]  # the README's command makes every file
        if words[1] == "make" and "--target" not in words:
            quicker += ["--target", "x86-cpu"]
        if words[1] == "train" and "--teacher" in words:
            quicker[quicker.index("--epochs") + 1] = "1"
        return [*PROGRAM, *words[1:], *quicker, *(["--overwrite"] * (words[1] in OUTPUTS))]
    assert words[0] == "python3", line
    # Before an option --for: they are for every camera.
    return [sys.executable, *words[1:3], *DEVICE_QUICKER.get(words[2], ()), *words[3:]]


def reader_environment(cache):
    """Return the variables of a reader's commands."""
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "XDG_STATE_HOME": str(cache)}


def run_commands(page, place, done, broker, cache, warm):
    """Run the commands of a page that can run here, and that no page has run before."""
    environment = reader_environment(cache)
    if page != "docs/commands.md":
        environment["EDGECLF_NO_TUNE"] = "1"  # a first start takes seconds, and one page shows that it works
    for line in command_lines(guides()[page]):
        if line in done or elsewhere(line):
            continue
        command = runnable(line, broker)
        if command[:3] == PROGRAM and page not in STARTED:
            found = warm.run(command[3:], place, environment)
        else:
            # A shell, since a page may write photos/cat/*.jpg; nobody else has these words.
            text = " ".join(word if re.fullmatch(r"[\w./*-]+", word) else shlex.quote(word) for word in command)
            found = subprocess.run(["bash", "-c", text], cwd=place, env=environment, capture_output=True, text=True)
        name = line.split()[1 if line.startswith("edgeclf") else 2]
        assert found.returncode in CODES.get(name, (0,)), f"{line}\n{found.stderr}"
        done.add(line)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["list", "targets"], ["check", "nothing"], ["nonsense"]], ids=" ".join)
def test_a_fork_is_as_a_command_that_is_started(words, place, cache, warm):
    environment = reader_environment(cache)
    started = subprocess.run([*PROGRAM, *words], cwd=place, env=environment, capture_output=True, text=True)
    forked = warm.run(words, place, environment)
    seen = [(found.returncode, found.stdout, found.stderr) for found in (started, forked)]
    assert seen[0] == seen[1]


@pytest.mark.slow
@pytest.mark.parametrize("page", guides())
def test_the_commands_of_a_page_work(page, place, done, broker, cache, warm):
    if page == "docs/tutorial.md":
        run_programs(page, place)  # it makes the photographs
    for one in ("README.md", page):  # which makes the run and the bundle of the other pages
        run_commands(one, place, done, broker, cache, warm)


@pytest.mark.parametrize("page", guides())
def test_a_command_of_a_page_is_run_or_the_tables_say_why_not(page):
    lines = command_lines(guides()[page])
    known = re.compile(r"edgeclf |python3 (\S+\.edge|benchmarks/reliability/images\.py) ")
    assert [line for line in lines if not elsewhere(line) and not known.match(line)] == []
    for script, line in [(re.search(r"benchmarks/\S+\.py", line), line) for line in lines]:
        if script:
            declared = (ROOT / script[0]).read_text(encoding="utf-8")
            assert [word for word in re.findall(r"(?<= )--[a-z-]+", line) if f'"{word}"' not in declared] == [], line


def test_the_tables_of_commands_that_are_not_run_with_their_page_are_right():
    lines = [line for path in guides().values() for line in command_lines(path)]
    assert [words for words in {**ELSEWHERE, **NOT_HERE} if not any(re.match(words, line) for line in lines)] == []
    assert [path for path in ELSEWHERE.values() if not (ROOT / path).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("words", NOT_HERE)
def test_what_no_test_runs_is_listed(words):
    pytest.skip(f"{words.replace(chr(92), '')}: {NOT_HERE[words]}")


def run_programs(page, place):
    """Run the blocks of Python of a page, with a camera that ends."""
    for number, text in enumerate(blocks(guides()[page], "python")):
        program = place / f"program{number}.py"
        text = CAMERA.sub("video.avi", text).replace("] < 200", "] < 60")  # of 400 photographs, 120 are enough
        program.write_text(text, encoding="utf-8")
        subprocess.run([sys.executable, program.name], cwd=place, check=True, timeout=600, stdout=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, path in guides().items() if blocks(path, "python")])
def test_the_programs_of_a_page_work(page, place, done, broker, cache, warm):
    run_commands("README.md", place, done, broker, cache, warm)
    run_programs(page, place)


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    assert len(text.split()) <= WORDS


@pytest.mark.parametrize(
    ("package", "page"),
    [(edgeclf, "docs/api-host.md"), (edgeclf_runtime, "docs/api-device.md")],
    ids=["host", "device"],
)
def test_every_public_name_is_on_an_api_page(package, page):
    pages = [(ROOT / path).read_text("utf-8") for path in (page, "docs/api-device.md")]
    objects = {name for text in pages for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)}
    documented = {name.rpartition(".")[2] for name in objects}
    assert "edgeclf_runtime.errors" in objects
    errors = {name for name in dir(edgeclf_runtime.errors) if isinstance(getattr(edgeclf_runtime.errors, name), type)}
    assert f"`{package.__name__}.__version__`" in pages[0]
    assert set(package.__all__) - {"__version__"} <= documented | errors


def code_strings():
    """Every string of the code, with {} for what is filled in."""
    for folder in ("edgeclf", "deploy/edgeclf_runtime"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for _, text in strings(path):
                yield re.sub(r"\{[^{}]*\}|%[sd]", "{}", text)


def test_every_message_in_troubleshooting_is_one_of_the_code():
    rows = [line.split(" | ")[0] for line in (ROOT / "docs/troubleshooting.md").read_text("utf-8").splitlines()]
    messages = [text for row in rows if row.startswith("| `") for text in re.findall("`([^`]+)`", row)]
    assert len(messages) > 30
    known = "\n".join(code_strings())
    lost = [text for text in messages if not all(part.strip() in known for part in re.split(r"[…;]", text))]
    assert not lost


class Loaded(html.parser.HTMLParser):
    """What a page of the site loads when it is shown."""

    def __init__(self, path):
        super().__init__()
        self.urls = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.urls += [given[name] for name in ("src", "srcset", "data", "poster") if given.get(name)]
        if tag == "link" and given.get("rel") != "canonical":
            self.urls.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built without a warning."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        if not importlib.util.find_spec(package):
            pytest.skip(f'{package} is not installed (python3 -m pip install -e ".[docs]")')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_and_has_every_page(site):
    names = {path.stem for path in site.glob("*.html")}
    assert names >= {"index", "device", "tensorrt", *(path.stem for path in ROOT.glob("docs/*.md"))}
    assert "Classifier.open" in (site / "api-device.html").read_text("utf-8")


@pytest.mark.slow
def test_no_page_of_the_site_loads_anything_from_another_host(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    foreign = [(path.name, url) for path in pages for url in Loaded(path).urls if re.match(r"(?:[a-z]+:)?//", url)]
    assert not foreign
    styles = [
        path
        for path in site.rglob("*.css")
        if re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text("utf-8"))
    ]
    assert not styles
