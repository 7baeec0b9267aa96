"""The device runtime: opens a verified bundle and classifies images and camera frames.

Runs on Python 3.6 to 3.13 with numpy, OpenCV and one inference backend.  Nothing of it is
imported here, so that ``--help`` and the version answer at once on a small machine; the names
for users live one noun a file::

    from edgeclf_runtime.classify.classifier import Classifier
    from edgeclf_runtime.capture.open import open_camera
    from edgeclf_runtime.errors import EdgeclfError

The runtime knows nothing of training, torch or the host package ``edgeclf``, which imports it.  It reports to nobody: see SECURITY.md.
"""

import os

__version__ = "0.1.0"
__all__ = ["__version__"]

# The largest image that is decoded: pixels, and OpenCV's own default for a side.
MAX_IMAGE_PIXELS = 50 * 1000 * 1000
MAX_IMAGE_SIDE = 1 << 20


def _limit_opencv_images(environment):
    """Set OpenCV's limits of an image's size, which it reads when it is loaded; a smaller one that is there stays."""
    for name, limit in (("PIXELS", MAX_IMAGE_PIXELS), ("WIDTH", MAX_IMAGE_SIDE), ("HEIGHT", MAX_IMAGE_SIDE)):
        name = "OPENCV_IO_MAX_IMAGE_" + name
        if not 0 <= _opencv_size(environment.get(name, "")) <= limit:
            environment[name] = str(limit)


def _opencv_size(text):
    """Return a size as OpenCV reads it, -1 for what it does not: it then cannot be loaded at all."""
    number = text.rstrip("MKBbkm")
    unit = {"": 1, "KB": 1 << 10, "Kb": 1 << 10, "kb": 1 << 10, "MB": 1 << 20, "Mb": 1 << 20, "mb": 1 << 20}.get(
        text[len(number) :]
    )
    # More digits overflow there.
    if unit is None or not 0 < len(number) < 10 or not set(number) <= set("0123456789"):
        return -1
    return int(number) * unit


_limit_opencv_images(os.environ)
# ONNX Runtime, from 1.29 on, keeps an id below ~/.cache and reports to its maker unless it finds this when it is
# imported.  A user's other choice is not kept: that nothing is sent must not depend on what an environment holds.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
