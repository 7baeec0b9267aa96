"""Learner, which makes a camera's own Baseline on the site, in constant memory.

Half of the time gives the mean layout, the other half the limits.  What depends on the camera's place, layout and details, is replaced;
the limits of the other measures are widened to what the site has, and stay otherwise, since ten minutes have no night.
"""

from typing import TYPE_CHECKING, Dict, List, Optional

from .baseline import NAMES, STEADY, Baseline, limits_of
from .blocks import LONG, Block
from .layout import PLACEMENT, Layout

if TYPE_CHECKING:
    import numpy as np

    from .measures import Measures

LEARN_IMAGES = 3000  # ten minutes at five a second


class Learner:
    """Learns from the first images of a camera.

    baseline    the training images' Baseline
    images      number of images to learn from, 200 or more
    """

    def __init__(self, baseline: Baseline, images: int = LEARN_IMAGES) -> None:
        self._baseline, self._images = baseline, images
        self._count = 0
        self._sums: "Dict[str, np.ndarray]" = {}
        self._block = Block(*LONG)
        self._layout: Optional[Layout] = None
        self._low: "Optional[np.ndarray]" = None
        self._high: "Optional[np.ndarray]" = None

    def add(self, measures: "Measures") -> Optional[Baseline]:
        """Take an image's Measures; returns the Baseline after the last one, before that None."""
        self._count += 1
        if self._layout is None:
            self._sum(measures)
            if self._count >= self._images // 2:
                self._layout = self._mean_layout()
            return None
        self._block.add(measures, True)
        if self._block.is_full:
            self._widen(self._block.values(self._layout)[0])
            self._block.clear()
        return self._learned(self._layout) if self._count >= self._images and self._low is not None else None

    def _sum(self, measures: "Measures") -> None:
        import numpy as np

        for name in ("layout", "detail"):
            value = np.asarray(getattr(measures, name), np.float64)
            for key, one in ((name, value), (name + " squared", value**2)):
                self._sums[key] = self._sums.get(key, 0.0) + one

    def _mean_layout(self) -> Layout:
        import numpy as np

        found: "List[np.ndarray]" = []
        for name in ("layout", "detail"):
            mean = self._sums[name] / self._count
            found += [mean, np.sqrt(np.maximum(self._sums[name + " squared"] / self._count - mean**2, 0.0))]
        return Layout(*found)

    def _widen(self, values: "np.ndarray") -> None:
        import numpy as np

        self._low = values if self._low is None else np.minimum(self._low, values)
        self._high = values if self._high is None else np.maximum(self._high, values)

    def _learned(self, layout: Layout) -> Baseline:
        import numpy as np

        limits = {}
        for column, name in enumerate(NAMES):
            before = self._baseline.limits[name]
            seen = float(self._low[column]), float(self._high[column])  # type: ignore[index]
            more = (seen[1] - seen[0]) / 2 if name in STEADY else 0.0  # few blocks have no extremes
            one = limits_of(name, (seen[0] - more, seen[1] + more), np.array(seen))
            if name not in PLACEMENT:
                near, far = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, before))
                one = before._replace(near=near, far=far)
            limits[name] = one
        return self._baseline._replace(limits=limits, layout=layout)
