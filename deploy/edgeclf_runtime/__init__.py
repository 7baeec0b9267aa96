"""The device runtime: opens a verified bundle and classifies images and camera frames.

Runs on Python 3.6 to 3.13 with numpy, OpenCV and one inference backend.  Nothing is imported
here, so that ``--help`` and the version answer at once on a small machine; the names for
users live one noun a file::

    from edgeclf_runtime.classifier import Classifier
    from edgeclf_runtime.camera import open_camera
    from edgeclf_runtime.errors import EdgeclfError

The runtime knows nothing of training, torch or the host package ``edgeclf``, which imports it.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
