"""Installs the device runtime only, on Python 3.6 and later: ``python3 -m pip install deploy/``.

A bundle holds its own runtime and needs none to be installed.  This is for programs that use bundles from Python.
numpy, OpenCV and a backend are not pulled in: a Jetson has its own builds of them, and pip's would hide those.
"""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "edgeclf_runtime" / "__init__.py").read_text(encoding="utf-8")
).group(1)

setup(
    name="edgeclf-runtime",
    version=VERSION,
    description="Runs edgeclf's image classifiers on a Jetson, a Raspberry Pi or a CPU box",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The edgeclf authors",
    license="MIT",
    url="https://github.com/edgeclf/edgeclf",
    keywords="image classification, edge inference, Jetson, TensorRT, ONNX Runtime",
    python_requires=">=3.6",
    packages=find_packages(),
    package_data={"edgeclf_runtime": ["py.typed", "sinks/live/*.html"]},
    extras_require={
        # Where the system has no builds of its own.
        "cpu": ["numpy>=1.19", "opencv-python-headless>=4.1.1", "onnxruntime>=1.10"],
        "mqtt": ["paho-mqtt>=1.6"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(6, 14)),
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
