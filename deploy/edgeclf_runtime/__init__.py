"""The device runtime: opens a verified bundle and classifies images and camera frames.

Runs on Python 3.6 to 3.13 with numpy, OpenCV and one inference backend.  Nothing of it is
imported here, so that ``--help`` and the version answer at once on a small machine; the names
for users live one noun a file::

    from edgeclf_runtime.classifier import Classifier
    from edgeclf_runtime.camera import open_camera
    from edgeclf_runtime.errors import EdgeclfError

The runtime knows nothing of training, torch or the host package ``edgeclf``, which imports it.  It reports to nobody: see SECURITY.md.
"""

import os

__version__ = "0.1.0"
__all__ = ["__version__"]

# ONNX Runtime, from 1.29 on, keeps an id below ~/.cache and reports to its maker unless it finds this when it is
# imported.  A user's other choice is not kept: that nothing is sent must not depend on what an environment holds.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
