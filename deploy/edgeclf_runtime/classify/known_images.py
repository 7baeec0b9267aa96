"""Known images: a summary of the training images' features, and the distance of other images from it.

A classifier gives one of its labels to every image.  Its features say more: those of an image that resembles no training image
lie far from all of theirs.  The summary holds the main directions of the training images' features and some points among
them, each with the number of the training image nearest to it.

The distance of an image is the sum of two parts, each in standard deviations of known images above their mean:

- how far its features are from the nearest point.  Features are scaled to length 1 first (Sun et al. 2022, "Out-of-Distribution
  Detection with Deep Nearest Neighbors", arXiv 2204.06507).  What lies outside the main directions counts in full.
- how close its two highest logits are.  This part is limited, because a network can be very sure of an image that is like none.
"""

import io
import zipfile
from typing import TYPE_CHECKING, Dict, Iterable, Tuple

from ..errors import BackendError, BundleError

if TYPE_CHECKING:
    import numpy as np

    Arrays = Dict[str, np.ndarray]

MOST_BYTES = 1 << 20
# The arrays of the file: type and shape.  A name stands for the same size wherever it occurs.
ARRAYS = {
    "mean": ("<f4", ("features",)),
    "directions": ("<f2", ("features", "dimensions")),
    "points": ("<f2", ("points", "dimensions")),
    "images": ("<i4", ("points",)),
    "scales": ("<f8", ("scales",)),
}  # type: Dict[str, Tuple[str, Tuple[str, ...]]]
# Of "scales": mean and standard deviation of the squared distance to the nearest point, then of the logits' closeness.
SCALES = 4
# Standard deviations of closeness below and above the mean of known images that count at most.
CLOSENESS_LIMITS = (-2.0, 4.0)
_HEADER_BYTES = 1 << 12
_LEAST_LENGTH = 1e-12
_MAKE_AGAIN = "make the bundle again"


class KnownImages:
    """A summary of the training images' features.

    arrays      as ARRAYS declares; raises ValueError if one is missing, or does not fit

    Safe to use from several threads.
    """

    def __init__(self, arrays: "Arrays") -> None:
        import numpy as np

        self.arrays = check_arrays(arrays)
        self.features, self.dimensions = arrays["directions"].shape
        self._directions = np.ascontiguousarray(arrays["directions"], np.float32)
        self._mean, self._mean_place = arrays["mean"], arrays["mean"].dot(self._directions)
        self._mean_square = float(arrays["mean"].dot(arrays["mean"]))
        self._points = np.ascontiguousarray(arrays["points"].T, np.float32)
        self._point_squares = (self._points**2).sum(0)

    def distance(self, features: "np.ndarray", logits: "np.ndarray") -> "np.ndarray":
        """Return how far images are from the training images: float32 [N], about 0 for known images.

        features, logits    float [N, features] and [N, labels], as the model returns them

        Infinite for an image whose features or logits are not finite.  Raises BackendError for features of another shape.
        """
        import numpy as np

        with np.errstate(all="ignore"):
            mean, spread, mean_closeness, spread_closeness = self.arrays["scales"]
            far = (self.squared_distance(features) - mean) / spread
            close = (closeness(logits) - mean_closeness) / spread_closeness
            found = far + np.minimum(np.maximum(close, CLOSENESS_LIMITS[0]), CLOSENESS_LIMITS[1])
            # The limits would hide a logit that is not finite; adding 0 times the closeness does not.
            found += 0 * close
        return np.where(np.isfinite(found), found, np.inf).astype(np.float32)

    def squared_distance(self, features: "np.ndarray") -> "np.ndarray":
        """Return the squared distance of features, scaled to length 1, from the nearest point: float32 [N], NaN if not finite."""
        inside, outside = self._from_points(features)
        nearest: "np.ndarray" = inside.min(1) + outside
        return nearest

    def nearest(self, features: "np.ndarray", count: int = 3) -> "np.ndarray":
        """Return the numbers of the training images at the nearest points, nearest first: int32 [N, at most count].

        The number is -1 for features that are not finite.
        """
        import numpy as np

        inside, outside = self._from_points(features)
        found = self.arrays["images"][inside.argsort(1, kind="mergesort")[:, :count]]
        found[~np.isfinite(outside)] = -1
        checked: "np.ndarray" = found
        return checked

    def _from_points(self, features: "np.ndarray") -> "Tuple[np.ndarray, np.ndarray]":
        """Return the squared distances from all points within the main directions, [N, points], and outside of them, [N]."""
        import numpy as np

        if getattr(features, "ndim", 0) != 2 or features.shape[1] != self.features:
            raise BackendError(
                "the model returned features of shape {}; [N, {}] was expected: {}".format(
                    list(getattr(features, "shape", ())), self.features, _MAKE_AGAIN
                )
            )
        with np.errstate(all="ignore"):
            rows = np.asarray(features, np.float32)
            length = np.maximum(np.sqrt(np.einsum("nf,nf->n", rows, rows)), _LEAST_LENGTH)
            # The projections are divided instead of the rows, which are longer.
            place = rows.dot(self._directions) / length[:, None] - self._mean_place
            square = np.einsum("nd,nd->n", place, place)
            # Of a unit row u and the mean m: |u - m|^2 = 1 + |m|^2 - 2 u m.
            whole = 1 + self._mean_square - 2 * rows.dot(self._mean) / length
            inside = square[:, None] + self._point_squares - 2 * place.dot(self._points)
            return np.maximum(inside, 0), np.maximum(whole - square, 0)


def closeness(logits: "np.ndarray") -> "np.ndarray":
    """Return how close the two highest logits are: their negative difference, float [N]; 0 if there is one label."""
    import numpy as np

    logits = np.asarray(logits)
    if logits.shape[1] < 2:
        return 0 * logits[:, 0]
    best = np.partition(logits, logits.shape[1] - 2, 1)[:, -2:]
    difference: "np.ndarray" = best.min(1) - best.max(1)
    return difference


def check_arrays(arrays: "Arrays") -> "Arrays":
    """Return arrays if they are those that ARRAYS declares, finite and of fitting shapes; ValueError otherwise."""
    import numpy as np

    sizes = {"scales": SCALES}  # type: Dict[str, int]
    if set(arrays) != set(ARRAYS):
        raise ValueError("it holds {}; {} were expected".format(_names(arrays), _names(ARRAYS)))
    for name in sorted(ARRAYS):
        array, (kind, shape) = arrays[name], ARRAYS[name]
        if array.dtype != np.dtype(kind) or array.ndim != len(shape):
            raise ValueError(
                "{} is {} of {} dimensions; {} of {} was expected".format(
                    name, array.dtype, array.ndim, np.dtype(kind), len(shape)
                )
            )
        for size, length in zip(shape, array.shape):
            if length < 1 or sizes.setdefault(size, length) != length:
                raise ValueError(
                    "{} has the shape {}, which does not fit the other arrays".format(name, list(array.shape))
                )
        if not np.isfinite(array).all():
            raise ValueError("{} has values that are not finite".format(name))
    if (arrays["scales"][1::2] <= 0).any() or (arrays["images"] < 0).any():
        raise ValueError("scales must be above 0, and numbers of images 0 or more")
    return arrays


def read_known_images(data: bytes, where: object) -> KnownImages:
    """Return the KnownImages that a file holds: an uncompressed .npz of the arrays that ARRAYS declares.

    data    the file's bytes
    where   its path, for the message

    Nothing is unpickled, and sizes are checked before anything is unpacked.  Raises BundleError for any other file.
    """
    try:
        if len(data) > MOST_BYTES:
            raise ValueError("it has {} bytes; at most {} were expected".format(len(data), MOST_BYTES))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("it is compressed; an uncompressed .npz was expected")
            if sum(entry.file_size for entry in entries) > len(data):
                raise ValueError("its entries are larger than the file")
            return KnownImages({_name(entry.filename): _array(archive.read(entry)) for entry in entries})
    # What zipfile raises for files that are damaged on purpose.
    except (ValueError, LookupError, EOFError, OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise BundleError(
            "{} does not hold the summary of known images ({}); {}".format(where, str(error)[:200], _MAKE_AGAIN)
        )


def _name(file: str) -> str:
    return file[:-4] if file.endswith(".npy") else file


def _array(data: bytes) -> "np.ndarray":
    """Return the array of a .npy file; ValueError if its header is of another kind, or does not fit the bytes that follow."""
    import numpy as np

    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0) or len(data) < 10 or data[8] + 256 * data[9] > _HEADER_BYTES:
        raise ValueError("an array has no header of version 1.0")
    try:
        shape, fortran, kind = np.lib.format.read_array_header_1_0(stream)
    except (SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError("an array's header is damaged ({})".format(type(error).__name__))
    if fortran:
        raise ValueError("an array is stored by columns; rows were expected")
    if kind.str not in [kind for kind, _ in ARRAYS.values()]:
        raise ValueError("an array is of type {}, which was not expected".format(kind.str))
    # Checks that the shape fits the bytes, and allocates nothing.
    return np.frombuffer(data, kind, offset=stream.tell()).reshape(shape)


def _names(arrays: Iterable[str]) -> str:
    return ", ".join(sorted(arrays)[:10]) or "nothing"
