"""Runs the tests of this folder as arm64, on an emulated Cortex-A57 (a Jetson Nano's own core).

    python3 tests/support/arm64.py NAME.edge [FOLDER [OPENCV]]
    python3 tests/support/arm64.py --fetch FOLDER

For a Debian, as root, with qemu-user-static installed.  Fetches an arm64 Python and aarch64
wheels into FOLDER (100 MB, kept for the next time), then runs the quick tests of what depends on the processor, but those
that start programs and a few that take long, for each OpenCV (EDGECLF_TEST_WHOLE=1: all quick tests).  onnxruntime is 1.19.2,
since later ones crash under this emulation.  With --fetch, only what test_interpreters.py needs is fetched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DEBIAN = ["python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgomp1"]
COMMON = ["onnxruntime==1.19.2", "pytest==8.3.5", "iniconfig", "packaging", "pluggy"]
# JetPack 5's and 6's OpenCV (the nearest with a wheel), and today's.
OPENCV = {"4.5.5.64": "numpy==1.26.4", "4.8.0.76": "numpy==1.26.4", "5.0.0.93": "numpy==2.4.6"}
# An interpreter that other programs can start by its name: the kernel knows none for aarch64.
INTERPRETER = """#!/bin/sh
exec qemu-aarch64-static -cpu cortex-a57 -L '{root}' -0 "$0" '{root}/usr/bin/python3.11' "$@"
"""
# What depends on the processor: arithmetic, the decoders of images, the numbers of system calls; not how threads and
# backends take turns, which the host's tests show many times faster.
SUBJECTS = (
    *(
        "files/test_read.py",
        "device/test_machine.py",
        "images",
        "runners/test_runners.py",
        "capture/test_frame_memory.py",
    ),
    *("streaming/test_smoothing.py", "test_fake.py"),
    *(f"classify/test_{name}.py" for name in ("classifier", "decision", "golden")),
)

# Seconds each under emulation, for what is the same on every processor: what a check refuses, and how threads take turns.
ELSEWHERE = (
    "test_wrong_",
    "test_another_resize_crop_or_color_order_fails",
    "test_pixels_of_another_scale_or_upside_down_fail",
    "test_preparing_in_another_thread_does_not_disturb_inference",
    "test_only_backends_that_can_infer_several_images_at_once_do",
    "test_where_cuda_fails_the_cpu_is_used_and_the_reason_is_logged",
    "test_a_batch_gives_the_results_of_each_image",
    "test_a_batch_of_all_images_gives_the_rows_of_each",
    "test_features_come_with_the_logits_if_a_distance_is_computed",
    "test_a_bundle_without_features_is_checked_by_its_logits",
    "test_one_bit_in_every_pixel_is_more_than_the_tolerance_allows",
    "test_a_text_that_inflates_to_gigabytes_is_read_up_to_a_megabyte",
    "test_what_follows_the_last_row_of_a_png_is_not_inflated",
)
CAN_EMULATE = bool(shutil.which("qemu-aarch64-static") and shutil.which("apt-get")) and os.getuid() == 0
TESTED_OPENCV = "4.8.0.76"
"""The one that test_interpreters.py takes."""


def fetch_python(root):
    """Unpack Debian's arm64 Python into a folder, without installing anything here."""
    apt = root.parent / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    settings = [
        "APT::Architecture=arm64",
        "APT::Architectures=arm64",
        f"Dir::State::Lists={apt}/lists",
        "Dir::State::status=/dev/null",
        f"Dir::Cache::archives={apt}/archives",
        f"Dir::Cache::pkgcache={apt}/packages.bin",
        f"Dir::Cache::srcpkgcache={apt}/sources.bin",
    ]
    command = ["apt-get", "-qq", *(f"-o{setting}" for setting in settings)]
    subprocess.check_call([*command, "update"])
    subprocess.check_call([*command, "--no-install-recommends", "--download-only", "-y", "install", *DEBIAN])
    for package in (apt / "archives").glob("*.deb"):
        subprocess.check_call(["dpkg", "-x", package, root])


def fetch_wheels(site, packages):
    """Unpack aarch64 wheels into a folder."""
    site.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3", "--abi=none"]
    command += [f"--platform={name}_aarch64" for name in ("manylinux_2_28", "manylinux_2_27", "manylinux2014")]
    subprocess.check_call([*command, "--platform=manylinux_2_17_aarch64", "-d", site, *packages])
    for wheel in site.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def prepare(folder, versions):
    """Fetch into a folder what is not there yet, with these OpenCVs; returns the interpreter."""
    root = folder / "root"
    if not root.is_dir():
        fetch_python(root)
    if not (folder / "common").is_dir():
        fetch_wheels(folder / "common", COMMON)
    for version in versions:
        if not (folder / f"opencv-{version}").is_dir():
            fetch_wheels(folder / f"opencv-{version}", [f"opencv-python-headless=={version}", OPENCV[version]])
    python = root / "usr/bin/python-emulated"
    python.write_text(INTERPRETER.format(root=root), encoding="utf-8")
    python.chmod(0o755)
    return python


def main(bundle, folder=None, opencv=None):
    """Run the tests with each OpenCV, or with the one that is named; returns 1 where one failed."""
    bundle = Path(bundle).resolve()
    folder = Path(folder or Path(tempfile.gettempdir()) / "edgeclf-arm64").resolve()
    versions = list(OPENCV) if opencv is None else [opencv]
    python = prepare(folder, versions)
    tests = [TESTS / "runtime"]
    if not os.environ.get("EDGECLF_TEST_WHOLE"):
        tests = [TESTS / "runtime" / name for name in SUBJECTS] + ["-k", f"not ({' or '.join(ELSEWHERE)})"]
    failed = []
    for version in versions:
        print(f"OpenCV {version} on aarch64", flush=True)
        path = os.pathsep.join(map(str, (folder / f"opencv-{version}", folder / "common", bundle)))
        environment = dict(os.environ, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1", EDGECLF_TEST_BUNDLE=str(bundle))
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.support.emulated"]
        command += ["-o", "addopts=-q", "-m", "not slow", *tests]
        if subprocess.call(command, cwd=TESTS.parent, env=environment):
            failed.append(version)
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] != ["--fetch"]:
        sys.exit(main(*sys.argv[1:]))
    if CAN_EMULATE:
        prepare(Path(sys.argv[2]).resolve(), [TESTED_OPENCV])
