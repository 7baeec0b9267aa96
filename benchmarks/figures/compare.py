"""Did it become slower?  Two files of one benchmark's figures, and a verdict for each row.

    python3 benchmarks/figures/compare.py OLD.json NEW.json --by "ONNX Runtime FP32"

Method: what is compared are the medians of the rounds (samples of one round depend on each other, rounds hardly do), by
the Mann-Whitney U test, two-sided.  A row is slower, and the exit code 3, if the test's p is below ``--alpha``
divided by the number of rows (Bonferroni), and the median of the rounds grew by more than ``--effect``: a difference can
be real and too small to matter.  With ``--by NAME`` each round is first divided by that contender's of the same round,
so that a machine that was slower altogether is no regression; NAME should be what did not change, such as a library.

Reads the JSON of ``latency.py``, ``pipeline.py`` and of a bundle's ``bench --json`` (whose samples are cut into ten
rounds); of ``ratios.py`` the ratio of each round, which needs no ``--by``.
Exit codes: 0 nothing is slower, 1 the files cannot be compared, 3 something is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

FASTER, SAME, SLOWER = "faster", "same", "SLOWER"
_BLOCKS = 10
# What must be equal for two files to measure the same thing, and what for them to come from the same machine.
_SETTINGS = ("benchmark", "batch", "threads", "size", "frame_size")
_MACHINE = ("machine", "board", "processor", "cores", "power_mode")

Rounds = Mapping[str, np.ndarray]


class NotComparableError(Exception):
    """Two files whose figures say nothing about each other."""


@dataclass(frozen=True)
class Verdict:
    """The change of one row: the new median relative to the old one, its p, and the verdict."""

    name: str
    ratio: float
    p: float
    verdict: str

    def __str__(self) -> str:
        return f"{self.name:<26} {self.ratio:7.3f} x   p {self.p:.4f}   {self.verdict}"


def main() -> None:
    """Compare, print a line for each row, and set the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, metavar="OLD.json")
    parser.add_argument("new", type=Path, metavar="NEW.json")
    parser.add_argument("--by", metavar="NAME", help="divide each round by this row's")
    parser.add_argument("--effect", type=float, default=0.05, help="the smallest growth that matters (0.05: 5 %%)")
    parser.add_argument(
        "--alpha", type=float, default=0.01, help="chance of a false alarm, of all rows together (0.01)"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        old, new = (read_report(path) for path in (arguments.old, arguments.new))
        verdicts = compare(old, new, arguments.by, arguments.effect, arguments.alpha)
    except NotComparableError as error:
        raise SystemExit(f"error: {error}") from None
    if arguments.json:
        print(json.dumps([asdict(verdict) for verdict in verdicts]))
    else:
        print("\n".join(str(verdict) for verdict in verdicts))
    raise SystemExit(3 if any(verdict.verdict == SLOWER for verdict in verdicts) else 0)


def read_report(path: Path) -> dict[str, Any]:
    """Return a benchmark's JSON; NotComparableError if there is none."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        medians(report)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotComparableError(
            f"{path} holds no samples ({error!r}); the JSON of latency.py, pipeline.py, ratios.py or bench --json was expected"
        ) from None
    return report


def medians(report: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the median of each round, float64 [rounds], by row; of ratios.py the ratio of each round."""
    if report.get("benchmark") == "ratios":
        return {name: np.array(row["ratios"], np.float64) for name, row in report["rows"].items()}
    if "samples_ms" in report:
        rounds = {name: np.array_split(np.asarray(values), _BLOCKS) for name, values in report["samples_ms"].items()}
    else:
        rounds = {name: row["rounds_ms"] for name, row in report["rows"].items()}
    return {name: np.array([np.median(samples) for samples in values]) for name, values in rounds.items()}


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any], by: str | None, effect: float, alpha: float
) -> list[Verdict]:
    """Return the verdict on each row that both reports have; NotComparableError where they measured different things."""
    for name in _SETTINGS:
        if old.get(name) != new.get(name):
            raise NotComparableError(f"{name} was {old.get(name)} and is {new.get(name)}; measure both in the same way")
    machines = [report.get("machine", {}) for report in (old, new)]
    other = [name for name in _MACHINE if machines[0].get(name) != machines[1].get(name)]
    if other:
        print(f"warning: not the same machine: {', '.join(other)} differ", file=sys.stderr)
    before, after = (_divided(medians(report), by) for report in (old, new))
    names = [name for name in before if name in after and name != by]
    if not names:
        raise NotComparableError(f"no row is in both; the rows are {', '.join(before)}, and {', '.join(after)}")
    return [_judge(name, before[name], after[name], effect, alpha / len(names)) for name in names]


def _divided(rounds: Rounds, by: str | None) -> Rounds:
    if by is None:
        return rounds
    if by not in rounds:
        raise NotComparableError(f"there is no row {by!r} to divide by; there are {', '.join(rounds)}")
    return {name: values / rounds[by] for name, values in rounds.items()}


def _judge(name: str, before: np.ndarray, after: np.ndarray, effect: float, alpha: float) -> Verdict:
    from scipy.stats import mannwhitneyu

    if _smallest_p(len(before), len(after)) >= alpha:
        enough = next(count for count in itertools.count(2) if _smallest_p(count, count) < alpha)
        raise NotComparableError(
            f"{name} has {len(before)} and {len(after)} rounds, too few to tell any change from chance among so many rows; "
            f"{enough} or more of each were expected: measure with more --rounds, or fewer --contenders"
        )
    ratio = float(np.median(after) / np.median(before))
    p = float(mannwhitneyu(before, after).pvalue)
    # The same factor both ways.
    changed = p < alpha and max(ratio, 1 / ratio) > 1 + effect
    return Verdict(name, round(ratio, 4), round(p, 6), (SLOWER if ratio > 1 else FASTER) if changed else SAME)


def _smallest_p(before: int, after: int) -> float:
    """Return the test's p where every round of the one is above every round of the other."""
    return 2 / math.comb(before + after, before)


if __name__ == "__main__":
    main()
