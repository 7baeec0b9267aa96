"""UsualImages, those with a usual distance among strange ones: they show whether the picture has changed, or only what is in it.

Dirt and a movement are in every image; a new kind of object is not.  Both change the layout, and both give large distances.
"""

from typing import TYPE_CHECKING

from .baseline import TOGETHER
from .blocks import Block
from .symptoms import outside

if TYPE_CHECKING:
    from .baseline import Baseline
    from .measures import Measures


class UsualImages:
    """Compares them with a Baseline, TOGETHER contents at a time.

    like_training   whether the latest of these blocks had no symptom; False before the first one is full
    """

    def __init__(self, baseline: "Baseline") -> None:
        self._baseline = baseline
        self._block = Block(TOGETHER, TOGETHER)
        self.like_training = False

    def restart(self) -> None:
        """Forget all: there are no strange images so far."""
        self._block.clear()
        self.like_training = False

    def add(self, measures: "Measures") -> None:
        """Take a new content."""
        self._block.add(measures, True)
        if self._block.is_full:
            self.like_training = not outside(*self._block.values(self._baseline.layout), self._baseline, near=True)
            self._block.clear()
