"""OpenCV's own DNN module, 4.1.1 and later: the backend of a stock JetPack, with nothing installed by pip."""

from typing import TYPE_CHECKING, Any, List, Optional

from ..bundle.model_file import model_bytes
from ..device.remedies import install
from ..text.versions import version_numbers
from .base import Outputs, Runner, importing, joined, output_order
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


def _outputs(net: Any) -> List[str]:
    """Return the names of the outputs logits and features; [] for a model that outputs only logits.

    Versions differ in their order, and forward() without names returns the last one.
    """
    names = [str(name) for name in net.getUnconnectedOutLayersNames()]
    order = output_order(names)
    return [names[index] for index in order] if len(order) > 1 else []


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
        self._outputs = _outputs(self._net)

    def _infer(self, batch: "np.ndarray") -> Outputs:
        # One by one, as the golden images are checked; a larger batch is no faster here.
        return joined([self._forward(batch[i : i + 1]) for i in range(len(batch))])

    def _forward(self, image: "np.ndarray") -> Outputs:
        self._net.setInput(image, "image")
        return Outputs(*self._net.forward(self._outputs)) if self._outputs else Outputs(self._net.forward())

    def _free(self) -> None:
        self._net = None
