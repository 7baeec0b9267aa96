"""Statistics of two models on the same images, beside those in ``evaluation/comparison.py``."""

from __future__ import annotations

from math import ceil, comb, sqrt

from ...training.results.metrics import NORMAL_95
from ..comparison import mcnemar

POWER = 0.8
_NORMAL_80 = 0.841621
"""The 80 % quantile of the standard normal distribution, for POWER."""
_ONE_POINT = 0.01


def mid_p(lost: int, won: int) -> float:
    """Return McNemar's mid-p value, two-sided, of images that only one of two models gets right.

    The exact test counts the whole probability of what was observed, mid-p half of it: it errs about as often as it claims,
    the exact test much less often.  Fagerland, Lydersen and Laake 2013, "The McNemar test for binary matched-pairs data:
    mid-p and asymptotic are better than exact conditional", BMC Medical Research Methodology 13.
    """
    differ = lost + won
    if lost == won:
        # Exact gives 1, and half of what was observed is taken off.
        return 1 - comb(differ, lost) / 2**differ / 2 if differ else 1.0
    return mcnemar(lost, won) - comb(differ, lost) / 2**differ


def enough_images(lost: int, won: int, images: int) -> int:
    """Return about how many images would show a difference of this size, 4 times in 5.

    With differences that small or none, the number for one point of accuracy.  Connor 1987, "Sample size for testing
    differences in proportions for the paired-sample design", Biometrics 43, at the 5 % level.
    """
    difference = max(abs(won - lost) / images, _ONE_POINT)
    differing = max((lost + won) / images, difference)
    reach = NORMAL_95 * sqrt(differing) + _NORMAL_80 * sqrt(differing - difference**2)
    return ceil((reach / difference) ** 2)
