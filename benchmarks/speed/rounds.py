"""Contenders that take turns, each in a process of its own that is stopped (SIGSTOP) while it is not its turn.

So neither a machine whose speed drifts, nor idle threads that spin, nor another library in the same process favors
one of them.  Each turn begins with a warm-up that does not count, and each round begins with another contender.  A turn
during which other programs took more than a twentieth of the processors is taken again, as long as there is patience;
their share is kept beside each turn (``others``).

Knows nothing of what the contenders do.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

WARM_UP_S = 0.3
PATIENCE_S = 60.0
_MOST_BY_OTHERS = 0.05
_FEWEST, _FEWEST_WARM_UP = 5, 2
_MOST_KEPT = 200
_RESAMPLES = 10_000


class Contender:
    """A process that runs :func:`serve`; used inside ``with``.

    facts       what it said of itself when it was ready: at least ``peak_mb``, its memory at most so far, and
                ``start_s``, the seconds from the start of its process until then
    reason      why it cannot run (any more), else ""
    """

    def __init__(self, command: Sequence[str], threads: int) -> None:
        self.facts: dict[str, Any] = {}
        self.reason = ""
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        start = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)},
            start_new_session=True,
        )
        self.facts = self._answer() or {}
        self.facts["start_s"] = round(time.perf_counter() - start, 3)

    def turn(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Let it run once; returns its answer, None if it failed."""
        if self.reason:
            return None
        os.killpg(self._process.pid, signal.SIGCONT)
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # _answer() says why
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any] | None:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            said = [text.strip() for text in self._errors.read().splitlines() if text.strip()]
            self.reason = f"its process ended: {said[-1][:200] if said else 'it said nothing'}"
            return None
        answer = json.loads(line)
        self.reason = answer.pop("reason", "")
        if not self.reason:
            os.killpg(self._process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return None if self.reason else answer

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._errors.close()


def serve(make: Callable[[], tuple[Callable[..., dict[str, Any]], dict[str, Any]]]) -> None:
    """Be a contender: say ready, then take a turn for each request, until stdin ends.

    make: returns what takes a turn, ``turn(**request) -> answer``, and facts to tell.  Whatever it raises is the
    reason why this contender cannot run.
    """
    # Whoever is stopped does not see that stdin ended: PR_SET_PDEATHSIG, prctl(2), so that none stays behind.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    # Libraries print to stdout; the answers need it for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        turn, facts = make()
        tell({**facts, "peak_mb": peak_mb()})
        for line in sys.stdin:
            start = _ticks()
            answer = turn(**json.loads(line))
            tell({**answer, "others": _share_of_others(start, _ticks()), "peak_mb": peak_mb()})
    except Exception as error:  # every library has exceptions of its own; the reason is shown to the user
        tell({"reason": " ".join(f"{type(error).__name__}: {error}".split())[:200]})


def peak_mb() -> int:
    """Return the most memory (RSS) that this process has had, in MB."""
    with open("/proc/self/status", encoding="ascii") as stream:
        (line,) = [line for line in stream if line.startswith("VmHWM")]
    return int(line.split()[1]) >> 10


def _ticks() -> tuple[float, float, float]:
    """Return the seconds that all processors were there, that they were busy, and that this process and its children used."""
    with open("/proc/stat", encoding="ascii") as stream:
        # user, nice, system, idle, iowait, irq, softirq, steal; see proc(5).
        values = [int(value) / os.sysconf("SC_CLK_TCK") for value in stream.readline().split()[1:9]]
    return sum(values), sum(values) - values[3] - values[4], sum(os.times()[:4])


def others_line(shares: dict[str, float]) -> str:
    """Return the sentence that states what :func:`others` found."""
    return "other programs took {median:.0%} of the processors during the turns, {max:.0%} at most".format(**shares)


def _share_of_others(start: tuple[float, float, float], end: tuple[float, float, float]) -> float:
    there, busy, own = (after - before for before, after in zip(start, end, strict=True))
    return round(max(0.0, busy - own) / max(there, 1e-9), 3)


def time_steps(step: Callable[[], object], seconds: float, warm_up_s: float = WARM_UP_S) -> list[float]:
    """Return the milliseconds of each call of ``step`` for so long, a few at least, after a warm-up that does not count.

    Of more than 200 as many are returned, evenly spread.
    """
    _repeat(step, warm_up_s, _FEWEST_WARM_UP)
    samples = _repeat(step, seconds, _FEWEST)
    chosen = np.linspace(0, len(samples) - 1, min(len(samples), _MOST_KEPT)).astype(int)
    return [round(samples[place], 3) for place in chosen]


def _repeat(step: Callable[[], object], seconds: float, fewest: int) -> list[float]:
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < fewest or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        samples.append((time.perf_counter() - start) * 1e3)
    return samples


def take_turns(
    contenders: Mapping[str, Contender], rounds: int, request: Mapping[str, Any], patience_s: float = PATIENCE_S
) -> dict[str, list[dict[str, Any]]]:
    """Let each contender take a turn a round; returns their answers by name.  One that fails is left out.

    patience_s      seconds, of all rounds together, for turns that are taken again because of other programs
    """
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            answer = contenders[name].turn(request)
            while answer is not None and answer["others"] > _MOST_BY_OTHERS and patience_s > 0:
                start = time.monotonic()
                again = contenders[name].turn(request)
                answer = again if again is None or again["others"] < answer["others"] else answer
                patience_s -= time.monotonic() - start
            if answer is not None:
                answers[name].append(answer)
    return {name: found for name, found in answers.items() if len(found) == rounds}


def others(answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Return the share of the processors that other programs took during the turns: its median, and the largest."""
    shares = [answer["others"] for found in answers.values() for answer in found]
    return {"median": round(float(np.median(shares)), 3), "max": round(max(shares), 3)}


def percentiles(rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return p50, p90 and p99 of all samples of all rounds."""
    samples = np.concatenate([np.asarray(samples) for samples in rounds])
    return {f"p{p}": round(float(np.percentile(samples, p)), 3) for p in (50, 90, 99)}


def ratio(rounds: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the ratio of two contenders' medians, round by round: its median and a 95 % interval by bootstrap of the rounds."""
    values = np.array([np.median(a) / np.median(b) for a, b in zip(rounds, others, strict=True)])
    return interval(values)


def interval(values: Any) -> dict[str, float]:
    """Return the median of one value a round, and its 95 % interval by bootstrap (10,000 resamples)."""
    values = np.asarray(values, float)
    chosen = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[chosen], axis=1), [2.5, 97.5])
    return {"median": round(float(np.median(values)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
