"""Draws, for field.py, a week of a camera's life with eight faults: when each was there, and what was reported when."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.streaming.health.symptoms import ORDER

if TYPE_CHECKING:
    from field import Site

HOURS, EVERY_H, LASTS_H = 96, 12, 1
_FPS = 5


def draw(site: Site, path: Path, faults: tuple[str, ...]) -> None:
    """Play four days with one hour of each fault, and draw the evidence of every verdict over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    times, evidence, changes = _play(site, faults)
    names = [name for name in ORDER if name in site.baseline_names()]
    figure, axes = pyplot.subplots(figsize=(12, 5), layout="constrained")
    shown = axes.imshow(
        np.array([evidence[name] for name in names]),
        aspect="auto",
        extent=(0, times[-1] / _FPS / 3600, len(names) - 0.5, -0.5),
        cmap="Greys",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    for number, fault in enumerate(faults):
        begin = (number + 1) * EVERY_H - 2
        axes.axvspan(begin, begin + LASTS_H, color="tab:orange", alpha=0.25, lw=0)
        axes.text(begin + LASTS_H / 2, -0.7, fault, rotation=30, fontsize=8)
    for moment, change in changes:
        if change.verdict in names:
            marker, color = (">", "tab:red") if change.active else ("x", "tab:blue")
            axes.plot(moment / _FPS / 3600, names.index(change.verdict), marker, color=color)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("hours; orange: the fault is there; red: a verdict begins; blue: it ends")
    figure.colorbar(shown, label="evidence, 1: enough for a verdict")
    figure.suptitle(f"{site.name}: what the health monitor reports", y=1.08)
    figure.savefig(path, bbox_inches="tight", dpi=100)


def _play(site: Site, faults: tuple[str, ...]):
    """Return the times of the samples, the evidence by verdict, and the Changes."""
    from field import Player

    player = Player(site, np.random.default_rng(3), 9 * 3600 * _FPS)
    monitor = player.monitor
    begun, step = player.moment, 300 * _FPS
    times, evidence = [], {name: [] for name in site.baseline_names()}
    for number, fault in enumerate((*faults, "")):
        hours = EVERY_H if number else EVERY_H - 2
        for pool, last_h in ((site.healthy, hours - (LASTS_H if number else 0)), (_pool(site, fault), LASTS_H)):
            if pool is None:
                continue
            for _ in range(int(last_h * 3600 * _FPS / step)):
                player.play(pool, step)
                times.append(player.moment - begun)
                for name, row in evidence.items():
                    row.append(monitor.evidence[name].share if name in monitor.evidence else name in monitor.active)
    return times, evidence, [(moment - begun, change) for moment, change in player.changes]


def _pool(site: Site, fault: str):
    return site.with_fault(fault, 0) if fault else None
