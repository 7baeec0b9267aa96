"""Known images: a summary of the training images' features, and the distance of other images from it.

A classifier gives one of its labels to every image.  Its features say more: those of an image that resembles no training image
lie far from all of theirs.  Features are scaled to length 1 first (Sun et al. 2022, "Out-of-Distribution Detection with Deep
Nearest Neighbors", arXiv 2204.06507).  The summary holds the main directions of the training images' features, each
label's center, and some points among them, each with the number and the label of the training image nearest to it.

The distance of an image is the sum of three parts, each in standard deviations of known images above their mean:

- within the main directions, how much farther its features are from the nearest center, as images of one label vary, than from the
  mean, as all images vary (Ren et al. 2021, "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection",
  arXiv 2106.09022).  It finds images that resemble known ones.
- the squared length of what lies outside the main directions.  It finds other kinds of images.
- a quarter of how close the two highest logits are.  This part is limited, because a network can be very sure of an image that
  is like none.
"""

import copy
import io
import zipfile
from typing import TYPE_CHECKING, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from ..errors import BackendError, BundleError

if TYPE_CHECKING:
    import numpy as np

    Arrays = Dict[str, np.ndarray]

MOST_BYTES = 1 << 20
# The arrays of the file: type and shape.  A name stands for the same size wherever it occurs.
ARRAYS = {
    "mean": ("<f4", ("features",)),
    "directions": ("<f2", ("features", "dimensions")),
    # Multiplies coordinates so that images of one label vary by 1 in every direction; then the labels' centers.
    "within": ("<f4", ("dimensions", "dimensions")),
    "centers": ("<f4", ("centers", "dimensions")),
    # 1 over the variance of all images; 0 leaves that part out.
    "weights": ("<f4", ("dimensions",)),
    "points": ("<f2", ("points", "dimensions")),
    "images": ("<i4", ("points",)),
    "labels": ("<i4", ("points",)),
    "scales": ("<f8", ("scales",)),
}  # type: Dict[str, Tuple[str, Tuple[str, ...]]]
# Of "scales": mean and standard deviation of each of the three parts.
SCALES = 6
CLOSENESS_WEIGHT = 0.25
# Standard deviations of closeness below and above the mean of known images that count at most.
CLOSENESS_LIMITS = (-2.0, 4.0)
_HEADER_BYTES = 1 << 12
_LEAST_LENGTH = 1e-12
_MAKE_AGAIN = "make the bundle again"


class Example(NamedTuple):
    """A training image: its number and its label's index."""

    image: int
    label: int


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
        self._centers = np.ascontiguousarray(arrays["centers"].T)
        self._center_squares = (self._centers**2).sum(0)
        self._points = np.ascontiguousarray(arrays["points"].T, np.float32)
        self._point_squares = (self._points**2).sum(0)

    def scaled(self, scales: Sequence[float]) -> "KnownImages":
        """Return the same summary with other scales, SCALES numbers: those of another model file of the same network."""
        import numpy as np

        found = copy.copy(self)
        found.arrays = check_arrays(dict(self.arrays, scales=np.array(scales, np.float64)))
        return found

    def distance(self, features: "np.ndarray", logits: "np.ndarray") -> "np.ndarray":
        """Return how far images are from the training images: float32 [N], about 0 for known images.

        features, logits    float [N, features] and [N, labels], as the model returns them

        Infinite for an image whose features or logits are not finite.  Raises BackendError for features of another shape.
        """
        import numpy as np

        mean, spread, mean_outside, spread_outside, mean_close, spread_close = self.arrays["scales"]
        with np.errstate(all="ignore"):
            relative, outside = self.parts(features)
            found = (relative - mean) / spread + (outside - mean_outside) / spread_outside
            close = (closeness(logits) - mean_close) / spread_close
            found = found + CLOSENESS_WEIGHT * np.minimum(np.maximum(close, CLOSENESS_LIMITS[0]), CLOSENESS_LIMITS[1])
            # The limits would hide a logit that is not finite; adding 0 times the closeness does not.
            found += 0 * close
        return np.where(np.isfinite(found), found, np.inf).astype(np.float32)

    def parts(self, features: "np.ndarray") -> "Tuple[np.ndarray, np.ndarray]":
        """Return the first two parts of the distance before they are scaled, float32 [N] each; NaN if not finite."""
        import numpy as np

        with np.errstate(all="ignore"):
            place, outside = self._place(features)
            white = place.dot(self.arrays["within"])
            squares = self._center_squares - 2 * white.dot(self._centers)
            nearest = squares.min(1) + np.einsum("nd,nd->n", white, white)
            return nearest - (place * place).dot(self.arrays["weights"]), outside

    def nearest(self, features: "np.ndarray", count: int = 3) -> "List[List[Example]]":
        """Return the training images at the nearest points, nearest first: for each row at most ``count`` of them.

        There are none for features that are not finite.
        """
        import numpy as np

        with np.errstate(all="ignore"):
            place, outside = self._place(features)
            squares = self._point_squares - 2 * place.dot(self._points)
        best = squares.argsort(1, kind="mergesort")[:, :count]
        images, labels = self.arrays["images"], self.arrays["labels"]
        return [
            [Example(int(images[point]), int(labels[point])) for point in points] if np.isfinite(far) else []
            for points, far in zip(best, outside)
        ]

    def _place(self, features: "np.ndarray") -> "Tuple[np.ndarray, np.ndarray]":
        """Return the coordinates within the main directions, [N, dimensions], and the squared length outside of them, [N]."""
        import numpy as np

        if getattr(features, "ndim", 0) != 2 or features.shape[1] != self.features:
            raise BackendError(
                "the model returned features of shape {}; [N, {}] was expected: {}".format(
                    list(getattr(features, "shape", ())), self.features, _MAKE_AGAIN
                )
            )
        rows = np.asarray(features, np.float32)
        length = np.maximum(np.sqrt(np.einsum("nf,nf->n", rows, rows)), _LEAST_LENGTH)
        # The projections are divided instead of the rows, which are longer.
        place = rows.dot(self._directions) / length[:, None] - self._mean_place
        # Of a unit row u and the mean m: |u - m|^2 = 1 + |m|^2 - 2 u m.
        whole = 1 + self._mean_square - 2 * rows.dot(self._mean) / length
        return place, np.maximum(whole - np.einsum("nd,nd->n", place, place), 0)


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
    if (arrays["scales"][1::2] <= 0).any() or any((arrays[name] < 0).any() for name in ("images", "labels", "weights")):
        raise ValueError("scales must be above 0, and weights and numbers of images and labels 0 or more")
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
