"""OpenCV's own DNN module, 4.1.1 and later: the backend of a stock JetPack, with nothing installed by pip."""

from typing import TYPE_CHECKING, Any, Optional

from ..bundle.model_file import model_bytes
from ..device.remedies import install
from ..text.versions import version_numbers
from .base import Runner, importing
from .opencv_onnx import give_clip_attributes, give_padding_nodes

if TYPE_CHECKING:
    import numpy as np

    from .base import ModelPath

_UNEQUAL_PADDING = (4, 5, 4)
"""The first version that is known to read a Conv with unequal padding."""


def version() -> str:
    """Return OpenCV's version."""
    import cv2

    return str(cv2.__version__)


class OpenCvRunner(Runner):
    """A float model on OpenCV, on the CPU.

    threads         OpenCV has one setting for the whole process, resizing included; None leaves it unchanged
    """

    backend = "opencv"
    title = "OpenCV"

    def _load(self, model_path: "ModelPath", threads: Optional[int]) -> None:
        with importing("OpenCV with its DNN module", lambda: install("opencv")):
            import cv2
            import numpy as np
            from cv2 import dnn
        self.version = cv2.__version__
        data = give_clip_attributes(model_bytes(model_path))
        if version_numbers(cv2.__version__, 3) < _UNEQUAL_PADDING:
            data = give_padding_nodes(data)
        # 4.8.0 (JetPack 6) and 4.8.1 compute wrong means with several threads; 4.6 and 4.9 do not.
        if cv2.__version__.startswith("4.8.") and b"ReduceMean" in data:
            threads = 1
        if threads:
            cv2.setNumThreads(threads)
        self._net: Any = dnn.readNetFromONNX(np.frombuffer(data, np.uint8))

    def _infer(self, batch: "np.ndarray") -> "np.ndarray":
        import numpy as np

        # One by one, as the golden images are checked; a larger batch is no faster here.
        return np.concatenate([self._forward(batch[i : i + 1]) for i in range(len(batch))])

    def _forward(self, image: "np.ndarray") -> Any:
        self._net.setInput(image, "image")
        return self._net.forward()

    def _free(self) -> None:
        self._net = None
