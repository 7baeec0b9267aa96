"""Evidence, a sequential test with a bounded rate of false alarms, whatever the dependence between images.

It bets on a yes-or-no observation.  As long as the chance of "yes", given everything before, is at most ``usual``, the product of the
bets is a supermartingale, so that it reaches a factor of 1/a with a probability of at most a (Ville's inequality).  Begun again whenever it
falls below 1 (CUSUM; Page 1954, "Continuous inspection schemes"), a false alarm comes after exp(limit) observations or
more on average: Shin, Ramdas and Rinaldo 2022, "E-detectors: a nonparametric framework for sequential change detection".
Frames that follow each other need not be independent; they only must not make "yes" likelier than ``usual``.  So one observation
is made of a block of frames, or of a new content.
"""

import math
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    import numpy as np

    Number = Union[float, np.ndarray]

LIMIT = 14.0  # 1.2 million observations: eight weeks of blocks of four seconds, at the worst "usual" chance


class Evidence:
    """Evidence that something happens more often than usual; for several things at once if ``usual`` is an array.

    usual       highest chance of "yes" that must not raise an alarm, 0 to 1
    changed     the chance of "yes" to look for
    total       the evidence so far, from 0 to ``limit``, in nats
    """

    def __init__(self, usual: "Number", changed: "Number", limit: float = LIMIT) -> None:
        import numpy as np

        usual, changed = np.asarray(usual, np.float64), np.asarray(changed, np.float64)
        self._yes, self._no = np.log(changed / usual), np.log((1 - changed) / (1 - usual))
        self.limit = limit
        self.total: "np.ndarray" = np.zeros(usual.shape)

    def add(self, yes: "np.ndarray") -> None:
        """Take one observation, a boolean of the shape of ``usual``."""
        import numpy as np

        self.total = np.clip(self.total + np.where(yes, self._yes, self._no), 0.0, self.limit)

    @property
    def share(self) -> float:
        """The largest total as a ratio of the limit, 0 to 1; 1 is an alarm."""
        return float(self.total.max()) / self.limit if self.total.size else 0.0

    def reset(self) -> None:
        """Forget everything."""
        self.total = self.total * 0.0


def limit_for(tests: int) -> float:
    """Return the limit for so many tests at once, which together have the false alarms of one."""
    return LIMIT + math.log(max(tests, 1))
