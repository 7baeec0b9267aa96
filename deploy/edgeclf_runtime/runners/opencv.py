"""OpenCV's own DNN module, 4.1.1 and later: what a stock JetPack classifies with, nothing installed by pip."""

import sys
from typing import Any

from ..errors import BackendError
from ..model_file import model_bytes
from .base import Runner, brief
from .clip import give_clip_attributes


def version():
    """Return OpenCV's version."""
    import cv2

    return cv2.__version__


class OpenCvRunner(Runner):
    """A float model on OpenCV, on the CPU.

    threads         OpenCV has one number for the whole process, resizing included; None leaves it as it is
    """

    backend = "opencv"

    def __init__(self, model_path, threads=None):
        try:
            import cv2
            import numpy as np
            from cv2 import dnn
        except ImportError as error:
            raise BackendError(
                "OpenCV with its DNN module is not there for {} ({}); install it: sudo apt-get install python3-opencv, "
                "or {} -m pip install opencv-python-headless".format(sys.executable, error, sys.executable)
            )
        if threads:
            cv2.setNumThreads(threads)
        data = give_clip_attributes(model_bytes(model_path))
        try:
            self._net: Any = dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        except cv2.error as error:
            raise BackendError("OpenCV {} cannot load {}: {}".format(cv2.__version__, model_path, brief(error)))

    def infer(self, batch):
        import cv2
        import numpy as np

        try:
            # One by one: that is what the golden images prove, and a larger batch is no faster here.
            return np.concatenate([self._forward(batch[i : i + 1]) for i in range(len(batch))])
        except cv2.error as error:
            raise BackendError("OpenCV failed on a batch of shape {}: {}".format(list(batch.shape), brief(error)))

    def _forward(self, image):
        self._net.setInput(image, "image")
        return self._net.forward()

    def close(self):
        self._net = None
