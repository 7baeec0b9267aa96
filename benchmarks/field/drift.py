"""Compares two measures of slowly changing features: how many distances are unusual, and the mean of features by predicted label.

    python3 benchmarks/field/drift.py [--scene 1] [--objects 80] [--runs 100] [--json]

Method: the scenes, the network and the lights of field.py.  A fault of severity 3 is mixed into the pictures, from 5 % to all of it.
In each run 100 contents pass (300 frames) in one light.  Three tests watch them:

distance    the share beyond the usual distance, as the monitor tests it
mean        ten contents at a time: how far their features are on average from the centers of their predicted labels, in the coordinates of the
            distance.  Its limit holds 98 % of blocks of validation images in each light, since a night lasts for hours; its evidence is
            that of the monitor's other blocks.
picture     the monitor's verdicts about the picture

A test finds a fault at the least share at which at least 90 % of the runs are reported.  "Few objects" is no fault: only three objects of
one label pass again and again, as on a line that makes one product.
"""

from __future__ import annotations

import argparse
import json
import sys

import cv2
import numpy as np
from backbone import Backbone
from field import SCENES, Site
from world import LIGHTS, Pool, faulty

from edgeclf_runtime.streaming.health.evidence import Evidence
from edgeclf_runtime.streaming.health.symptoms import MIX, UNKNOWN

FAULTS = ("dark", "overexposed", "blurred", "dirty or covered", "color cast", "noisy")
SHARES = (0.05, 0.1, 0.2, 0.4, 1.0)
CONTENTS, TOGETHER, STAY = 100, 10, 3
TESTS = ("distance", "mean", "picture")


class Watch:
    """The three tests of a site."""

    def __init__(self, site: Site, random: np.random.Generator) -> None:
        self._site, self._random = site, random
        blocks = [
            self.mean_distance(site.validation, light, self._drawn(site.validation, TOGETHER * 500))
            for light in range(len(LIGHTS))
        ]
        self._limit = max(float(np.quantile(block, 0.98)) for block in blocks)

    def _drawn(self, pool: Pool, count: int, objects: np.ndarray | None = None) -> np.ndarray:
        return self._random.choice(np.arange(len(pool.truth)) if objects is None else objects, count)

    def mean_distance(self, pool: Pool, light: int, drawn: np.ndarray) -> np.ndarray:
        """Return how far the mean features of each TOGETHER of the drawn objects are from their labels' centers."""
        off = self._site.head.off_center(pool, light)[drawn]
        return np.linalg.norm(off.reshape(-1, TOGETHER, off.shape[1]).mean(1), axis=1)

    def found(self, pool: Pool, light: int, objects: np.ndarray | None = None) -> tuple[bool, bool, bool]:
        """Return, in the order of TESTS, whether each reports CONTENTS objects that pass."""
        drawn = self._drawn(pool, CONTENTS, objects)
        far, mean = Evidence(0.15, 0.49), Evidence(0.02, 0.95)
        reached = [False, False]
        for is_far in pool.distance[drawn, light] > self._site.head.usual_distance:  # type: ignore[index]
            far.add(np.asarray(is_far))
            reached[0] |= far.share >= 1
        for distance in self.mean_distance(pool, light, drawn):
            mean.add(np.asarray(distance > self._limit))
            reached[1] |= mean.share >= 1
        return reached[0], reached[1], self._picture(pool, light, drawn)

    def _picture(self, pool: Pool, light: int, drawn: np.ndarray) -> bool:
        monitor = self._site.monitor()
        for content, index in enumerate(np.repeat(drawn, STAY)):
            changes = monitor.add_image(pool.one(int(index), light, content))
            if any(change.verdict not in (UNKNOWN, MIX) for change in changes):
                return True
        return False


def shares_found(watch: Watch, pool: Pool, runs: int, label: int | None = None) -> list[float]:
    """Return the share of runs that each test reports; label: only three objects of it pass."""
    random, found = np.random.default_rng(0), []
    for run in range(runs):
        few = None if label is None else random.choice(np.flatnonzero(pool.truth == label), 3, replace=False)
        found.append(watch.found(pool, run % len(LIGHTS), few))
    return np.mean(found, 0).round(3).tolist()


def mixed(site: Site, fault: str, share: float) -> Pool:
    """Return every second object with a fault of which only a share is there."""
    pictures = []
    for index, picture in enumerate(site.pictures[::2]):
        changed = faulty(picture, fault, 3, np.random.default_rng(index % 4))
        pictures.append(cv2.addWeighted(picture, 1 - share, changed, share, 0))
    return site.classified(pictures, site.truth[::2])


def measure_scene(site: Site, runs: int) -> dict[str, object]:
    """Return the figures of a scene."""
    watch = Watch(site, np.random.default_rng(0))
    labels = [label for label in np.unique(site.truth) if (site.truth == label).sum() >= 3]
    few = np.mean([shares_found(watch, site.healthy, runs // len(labels) + 1, label) for label in labels], 0)
    found: dict[str, object] = {
        "nothing": dict(zip(TESTS, shares_found(watch, site.healthy, runs), strict=True)),
        "few objects": dict(zip(TESTS, few.round(3).tolist(), strict=True)),
    }
    print(site.name, json.dumps(found), file=sys.stderr, flush=True)
    for fault in FAULTS:
        rows = [shares_found(watch, mixed(site, fault, share), runs) for share in SHARES]
        least = {
            test: next((s for s, row in zip(SHARES, rows, strict=True) if row[i] >= 0.9), None)
            for i, test in enumerate(TESTS)
        }
        found[fault] = {"least": least, "rows": rows}
        print(f"{site.name} {fault:18}", least, rows, file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Measure one scene, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=int, default=1, help="number of a scene, 0 to 2")
    parser.add_argument("--objects", type=int, default=80)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    site = Site(*SCENES["test"][arguments.scene], "test", arguments.objects, 3, Backbone())
    found = measure_scene(site, arguments.runs)
    if arguments.json:
        print(json.dumps({site.name: found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
