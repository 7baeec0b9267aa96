"""MaskedCamera, a source of frames in which a mask hides parts of the picture, from the network and from everyone else."""

from typing import TYPE_CHECKING, Optional

from ..errors import CameraError, ImageError, OptionError
from ..images.frame import Frame
from ..images.read import read_image
from .camera import Camera

if TYPE_CHECKING:
    import numpy as np

_SAME_SHAPE = 0.01
"""Largest difference of the ratio of the sides from that of the frames: a mask may be larger or smaller than they are."""
_OF_CAMERA = ("name", "policy", "dropped", "rested", "skipped", "rate", "mode", "as_asked", "comes_back")


class MaskedCamera(Camera):
    """Another camera, whose frames are black where its mask is.

    camera      the Camera; it is closed with this one
    mask        as read_mask() returns it; it is scaled to the frames
    """

    def __init__(self, camera: Camera, mask: "np.ndarray") -> None:
        self._camera, self._mask = camera, mask
        self._fitted: "Optional[np.ndarray]" = None
        self._follow()

    def _follow(self) -> None:
        for name in _OF_CAMERA:
            setattr(self, name, getattr(self._camera, name))

    def wait_opened(self) -> "MaskedCamera":
        self._camera.wait_opened()
        self._follow()
        return self

    def read(self, timeout_s: Optional[float] = None) -> Optional[Frame]:
        """Return the camera's next frame without what the mask hides.

        Raises CameraError, besides what the camera raises, if the mask has another shape than the frames.
        """
        try:
            frame = self._camera.read(timeout_s)
        finally:
            self._follow()
        return frame if frame is None else frame._replace(image=self._hide(frame.image))

    def _hide(self, image: "np.ndarray") -> "np.ndarray":
        import cv2

        if self._fitted is None or self._fitted.shape != image.shape:
            self._fitted = self._fit(*image.shape[1::-1])
        # In place if that is possible: nothing else should see the frame as it was.
        return cv2.bitwise_and(image, self._fitted, dst=image if image.flags.writeable else None)

    def _fit(self, width: int, height: int) -> "np.ndarray":
        """Return the mask for frames of this size, uint8 [height, width, 3]."""
        import cv2

        rows, columns = self._mask.shape
        if abs(columns * height - rows * width) > _SAME_SHAPE * rows * width:
            raise CameraError(
                "the mask has {} x {} pixels, but the frames have {} x {}: give --mask a picture of the same shape, such as one "
                "that was painted over a frame of this camera".format(columns, rows, width, height)
            )
        return cv2.merge([cv2.resize(self._mask, (width, height), interpolation=cv2.INTER_NEAREST)] * 3)

    def rest(self, resting: bool) -> None:
        self._camera.rest(resting)

    def close(self) -> None:
        self._camera.close()


def read_mask(path: str) -> "np.ndarray":
    """Return the mask in an image file, uint8 [height, width]: 0 where the picture is black, 255 elsewhere.

    Raises OptionError if it cannot be read, or hides everything.
    """
    import cv2
    import numpy as np

    try:
        gray = cv2.cvtColor(read_image(path), cv2.COLOR_BGR2GRAY)
    except ImageError as error:
        raise OptionError("--mask: {}".format(error))
    mask = np.where(gray < 128, 0, 255).astype(np.uint8)
    if not mask.any():
        raise OptionError(
            "--mask {} is black, so it hides the whole picture: leave white what is to be seen".format(path)
        )
    return mask
