"""Block, some images in a row that are compared with the baseline together."""

from typing import TYPE_CHECKING, List, Tuple

from .baseline import NAMES, TOGETHER

if TYPE_CHECKING:
    import numpy as np

    from .layout import Layout
    from .measures import Measures

SHORT, LONG = (25, 4), (50, TOGETHER)  # images and contents: five and ten seconds at five images a second
MOST_IMAGES = 100
STILL = 50  # images without a new content, after which none is waited for
_SHARPNESS = NAMES.index("sharpness")


class Block:
    """Images that are compared together.  It is full when it has so many images and contents, or MOST_IMAGES, or when
    nothing moves.

    contents    the Measures of the first image of each content
    """

    def __init__(self, images: int, contents: int) -> None:
        self._least = images, contents
        self._still = 0
        self.clear()

    def clear(self) -> None:
        """Begin the next block."""
        self._rows: "List[np.ndarray]" = []
        self.contents: "List[Measures]" = []

    def add(self, measures: "Measures", is_new: bool) -> None:
        """Take an image; ``is_new``: whether it differs from those before."""
        self._rows.append(measures.values)
        self._still = 0 if is_new else self._still + 1
        if is_new or not self.contents:
            self.contents.append(measures)

    @property
    def has_several(self) -> bool:
        """True if it has enough contents for the near limits."""
        return len(self.contents) >= self._least[1]

    @property
    def is_full(self) -> bool:
        """True if it is complete."""
        images = len(self._rows)
        return images >= self._least[0] and (self.has_several or images >= MOST_IMAGES or self._still >= STILL)

    def values(self, layout: "Layout") -> "Tuple[np.ndarray, float]":
        """Return the block's values in the order of NAMES, and the coherence of its layout's difference."""
        import numpy as np

        means = [np.mean([getattr(one, name) for one in self.contents], 0) for name in ("layout", "detail", "values")]
        values = np.concatenate([np.median(np.array(self._rows), 0), layout.compare(means[0], means[1])])
        values[_SHARPNESS] = means[2][_SHARPNESS]
        return values, layout.coherence(means[0])
