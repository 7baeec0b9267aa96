"""Block, some images in a row that are compared with the baseline together."""

from typing import TYPE_CHECKING, Any, List, Tuple

from .baseline import NAMES, TOGETHER

if TYPE_CHECKING:
    import numpy as np

    from .layout import Layout
    from .measures import Measures

SHORT, LONG = (25, 4), (50, TOGETHER)  # images and contents: five and ten seconds at five images a second
MOST_IMAGES = 100
STILL = 50  # images without a new content, after which none is waited for
_SUMMED = ("layout", "detail", "values")
_SHARPNESS = NAMES.index("sharpness")


class Block:
    """Images that are compared together.  It is full when it has so many images and contents, or MOST_IMAGES, or when
    nothing moves.  It keeps each image's values, and the sum of the layouts and details of the first image of each content.
    """

    def __init__(self, images: int, contents: int) -> None:
        self._least = images, contents
        self._still = 0
        self.clear()

    def clear(self) -> None:
        """Begin the next block."""
        self._rows: "List[np.ndarray]" = []
        self._contents = 0
        self._sums: "List[Any]" = [0.0] * len(_SUMMED)

    def add(self, measures: "Measures", is_new: bool) -> None:
        """Take an image; ``is_new``: whether it differs from those before."""
        self._rows.append(measures.values)
        self._still = 0 if is_new else self._still + 1
        if is_new or not self._contents:
            self._contents += 1
            self._sums = [total + getattr(measures, name) for total, name in zip(self._sums, _SUMMED)]

    @property
    def has_several(self) -> bool:
        """Enough contents for the near limits."""
        return self._contents >= self._least[1]

    @property
    def is_full(self) -> bool:
        """Enough images and contents, or no more to wait for."""
        images = len(self._rows)
        return images >= self._least[0] and (self.has_several or images >= MOST_IMAGES or self._still >= STILL)

    def values(self, layout: "Layout") -> "Tuple[np.ndarray, float]":
        """Return the block's values in the order of NAMES, and the coherence of its layout's difference."""
        import numpy as np

        means = [total / self._contents for total in self._sums]
        values = np.concatenate([np.median(np.array(self._rows), 0), layout.compare(means[0], means[1])])
        values[_SHARPNESS] = means[2][_SHARPNESS]
        return values, layout.coherence(means[0])
