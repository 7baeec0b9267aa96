"""INT8 by TensorRT's own calibrator, up to TensorRT 10: ranges from calibration.cache, or from images on this device.

INT8 usually comes from the Q/DQ file, whose accuracy the host has measured; the calibrator is for DLA, and for users who
ask for it.  Ranges are never made up: without real data there is no INT8.
"""

import os
import re
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Union

from ..errors import BackendError, EdgeclfError
from ..files.read import read_bytes, sha256_bytes, sha256_file
from ..images.preprocess import Preprocessing, as_batch, preprocess
from ..images.read import is_image_name, read_image
from .cuda import open_cuda
from .versions import Version

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Protocol

    import numpy as np

    from .cuda import PyCuda, RuntimeCuda

    class _Calibrator(Protocol):
        error: Optional[EdgeclfError]

        def close(self) -> None: ...


_MOST_CACHE_BYTES = 16 << 20


def images_in(folder: str) -> List[str]:
    """Return the paths of the images in a folder and its subfolders; raises BackendError if there are none."""
    found = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if is_image_name(name)]
    if not found:
        raise BackendError(
            "{} holds no images to calibrate with; give --calibration a folder of real ones, ideally about 300 of the "
            "training images".format(folder)
        )
    return sorted(found)


def data_sha256(path: str) -> str:
    """Return a hash of the calibration data: a cache, or the images of a folder."""
    if not os.path.isdir(path):
        return sha256_file(path)
    return sha256_bytes("".join(sorted(map(sha256_file, images_in(path)))).encode())


def cache_for(path: str, version: Version) -> bytes:
    """Return a calibration cache's bytes, with the first line that a TensorRT version expects.

    TensorRT ignores a cache with another version in the first line, although the other lines, a scale for each tensor's
    name, are the same for all.  The number is NV_TENSORRT_VERSION: 8502 is 8.5.2, and 100300 is 10.3.0.
    """
    try:
        data = read_bytes(path, _MOST_CACHE_BYTES)
    except (OSError, ValueError) as error:
        raise BackendError("{} cannot be read ({}); make the bundle again".format(path, error))
    first, _, scales = data.partition(b"\n")
    if not re.match(rb"TRT-\d+-EntropyCalibration2\s*$", first) or b": " not in scales:
        raise BackendError(
            "{} is not a calibration cache: it begins with {!r}, but TRT-8502-EntropyCalibration2 and a line for each "
            "tensor were expected; make the bundle again".format(path, first[:60])
        )
    major, minor, patch = version[:3]
    number = major * (10000 if major >= 10 else 1000) + minor * 100 + patch
    return b"TRT-%d-EntropyCalibration2\n" % number + scales


def make_calibrator(trt: "ModuleType", version: Version, path: str, preprocessing: Sequence[Any]) -> "_Calibrator":
    """Return an IInt8EntropyCalibrator2 that gives TensorRT a cache's ranges, or a folder's images one by one.

    preprocessing   fields of the Preprocessing of these images

    Its ``error`` keeps what goes wrong while TensorRT calls it.  close() frees the GPU's memory.
    """
    base: Any = trt.IInt8EntropyCalibrator2
    cache = None if os.path.isdir(path) else cache_for(path, version)
    images = iter(() if cache else images_in(path))

    class Calibrator(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.error: Optional[EdgeclfError] = None
            self._cuda: "Union[RuntimeCuda, PyCuda, None]" = None
            self._array: "Optional[np.ndarray]" = None
            self._address = 0

        def get_batch_size(self) -> int:
            return 1

        def read_calibration_cache(self) -> Optional[bytes]:
            return cache

        def write_calibration_cache(self, data: object) -> None:
            """Store nothing: the engine is cached instead."""

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            # TensorRT would swallow an exception.
            try:
                path = next(images, None)
                return None if path is None else [self._upload(path)]
            except EdgeclfError as error:
                self.error = error
                return None

        def _upload(self, path: str) -> int:
            batch = as_batch([preprocess(read_image(path), Preprocessing(*preprocessing))])
            if self._cuda is None:
                self._cuda = open_cuda()
                self._array = self._cuda.pinned(batch.shape)
                self._address = self._cuda.allocate(batch.nbytes)
            assert self._array is not None
            self._array[...] = batch
            self._cuda.upload(self._address, self._array)
            self._cuda.synchronize()
            return self._address

        def close(self) -> None:
            self._array = None
            if self._cuda:
                self._cuda.close()

    return Calibrator()
