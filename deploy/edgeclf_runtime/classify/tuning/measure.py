"""Measures candidates in turns, until the fastest is known."""

import math
import statistics
import time
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence, Set

from ...device.machine import memory_bytes
from ...errors import BackendError, EdgeclfError
from ...runners.base import close_quietly, library_errors
from ..classifier import Classifier
from ..golden import check_golden, golden_images
from ..selection import open_within
from .block import frame_ms, inference_ms
from .memory import FILE

if TYPE_CHECKING:
    from ...bundle.open_bundle import Bundle
    from ...files.schema import JsonObject
    from .candidate import Candidate

    Send = Callable[[JsonObject], None]

_FEWEST_ROUNDS, _MOST_ROUNDS = 4, 25
_MOST_LOADED = 6
_ROOM = 5  # times a model's file, the memory that opening it may take
# A candidate is out if its best block is slower than a typical block of the fastest by this factor: after it was opened, and
# after a round.
_CLOSE_AT_ENTRY, _CLOSE = 1.5, 1.25
# Other threads may make a model on a backend faster by this factor.
_VARIANT = 3.0
_OPEN_ONCE = 3.0  # times the time, in which each model on each backend is tried once, on a slow device


def measure(bundle: "Bundle", candidates: "Sequence[Candidate]", purpose: str, budget_s: float, send: "Send") -> None:
    """Measure candidates in turns, so that a machine whose speed drifts favors none.

    send        takes the answers, see ``classify/tuning/child.py``
    """
    contest = Contest(bundle, purpose, send)
    start = time.monotonic()
    try:
        first, others = _first_of_each(candidates)
        for one in first:
            if time.monotonic() < start + _OPEN_ONCE * budget_s:
                contest.enter(one)
        contest.enter_variants(others, start + budget_s)
        for number in range(_MOST_ROUNDS):
            if contest.decided or (number >= _FEWEST_ROUNDS and time.monotonic() > start + budget_s):
                break
            contest.go_round(number)
        send({"best": contest.best()})
    finally:
        contest.close()


def _first_of_each(candidates: "Sequence[Candidate]") -> "List[List[Candidate]]":
    """Return the first candidate of each model and backend, and the others."""
    names: "Dict[str, str]" = {}
    for one in candidates:
        names.setdefault(one.pair, one.name)
    first = [one for one in candidates if names[one.pair] == one.name]
    return [first, [one for one in candidates if names[one.pair] != one.name]]


class _Entrant:
    """A candidate, the milliseconds of its blocks, and its Classifier while it is loaded.

    entry, rounds   milliseconds of the blocks after it was opened, and of one block in each round
    """

    def __init__(self, candidate: "Candidate") -> None:
        self.candidate = candidate
        self.entry: List[float] = []
        self.rounds: List[float] = []
        self.classifier: Optional[Classifier] = None

    @property
    def ms(self) -> float:
        """The median block.  Others have no blocks at the time of an entry, and the machine may have been slower then."""
        return statistics.median(self.rounds or self.entry)

    @property
    def typical(self) -> float:
        """The cost of its median block."""
        return self.candidate.cost(self.ms)

    @property
    def lowest(self) -> float:
        """The cost of its fastest block."""
        return self.candidate.cost(min(self.entry + self.rounds))


class Contest:
    """Candidates that take turns; the slow ones are closed.

    The fastest so far has always passed the golden images, so that a wrong one puts no other out.
    """

    def __init__(self, bundle: "Bundle", purpose: str, send: "Send") -> None:
        self._bundle, self._send = bundle, send
        self._images = golden_images(bundle)
        self._block_ms = frame_ms if purpose == FILE else inference_ms
        self._entrants: List[_Entrant] = []
        self._proven: Set[str] = set()  # names of pairs

    @property
    def decided(self) -> bool:
        """True if fewer than two candidates are left."""
        return len([one for one in self._entrants if one.classifier]) < 2

    def enter(self, candidate: "Candidate") -> None:
        """Open a candidate and measure it for the first time; it stays loaded if it is one of the fastest."""
        one = _Entrant(candidate)
        self._entrants.append(one)
        try:
            self._open(one)
            for _ in range(2):
                self._measure(one, one.entry)
                if not self._is_close(one):
                    break
            if self._is_close(one) and candidate.pair not in self._proven:
                self._prove(one)
        except EdgeclfError as error:
            self._fail(one, error)
        self._close_slow()

    def enter_variants(self, candidates: "Sequence[Candidate]", end: float) -> None:
        """Enter the pairs that were measured with other threads, the fastest pair first; until ``end``, except that one.

        Those that cannot be the fastest that way, either, are left out.
        """
        fastest = {one.candidate.pair: one.lowest for one in self._entrants}
        for candidate in sorted(candidates, key=lambda one: fastest.get(one.pair, math.inf)):
            best, lowest = self._fastest(), fastest.get(candidate.pair, math.inf)
            if best is None or (lowest > min(fastest.values()) and time.monotonic() > end):
                continue
            if lowest < _VARIANT * best.typical:
                self.enter(candidate)
            else:
                self._send({"name": candidate.name, "failed": "not tried: too slow"})

    def go_round(self, number: int) -> None:
        """Measure each loaded candidate once; each round begins with another one."""
        loaded = [one for one in self._entrants if one.classifier]
        first = number % len(loaded)
        for one in loaded[first:] + loaded[:first]:
            try:
                self._measure(one, one.rounds)
            except EdgeclfError as error:
                self._fail(one, error)
        self._close_slow()

    def best(self) -> str:
        """Return the name of the fastest that itself passes the golden images, or ""."""
        while self._entrants:
            one = min(self._entrants, key=lambda one: one.typical)
            try:
                if one.classifier is None:
                    self._open(one)
                self._prove(one)
                return one.candidate.name
            except EdgeclfError as error:
                self._fail(one, error)
        return ""

    def close(self) -> None:
        """Close all."""
        for one in self._entrants:
            self._close(one)

    def _open(self, one: _Entrant) -> None:
        model, backend, threads, at_once = one.candidate
        self._send({"doing": one.candidate.name})
        self._make_room(self._bundle.files[model.file]["size"])
        with library_errors("it failed", ImportError):
            runner = open_within(self._bundle, model, backend, threads, at_once)
        labels, preprocessing = self._bundle.labels, self._bundle.preprocessing
        one.classifier = Classifier(runner, labels, preprocessing, model.name, at_once=at_once)

    def _make_room(self, model_bytes: int) -> None:
        """Close the others if memory is short: they keep the figures that they have."""
        memory = memory_bytes()
        if memory is not None and memory[1] < _ROOM * model_bytes:
            self.close()

    def _prove(self, one: _Entrant) -> None:
        assert one.classifier
        self._send({"doing": one.candidate.name})
        report = check_golden(self._bundle, one.candidate.model, one.classifier.runner)
        if not report.passed:
            raise BackendError(str(report))
        self._proven.add(one.candidate.pair)

    def _measure(self, one: _Entrant, blocks: List[float]) -> None:
        assert one.classifier
        self._send({"doing": one.candidate.name})
        with library_errors("it failed", ImportError):
            blocks.append(self._block_ms(one.classifier, self._images))
        self._send({"name": one.candidate.name, "ms": round(one.ms, 4)})

    def _fastest(self) -> Optional[_Entrant]:
        proven = [one for one in self._entrants if one.candidate.pair in self._proven and one.entry]
        return min(proven, key=lambda one: one.typical) if proven else None

    def _is_close(self, one: _Entrant) -> bool:
        best = self._fastest()
        return best is None or one.lowest < (_CLOSE if one.rounds else _CLOSE_AT_ENTRY) * best.typical

    def _close_slow(self) -> None:
        loaded = sorted([one for one in self._entrants if one.classifier], key=lambda one: one.lowest)
        for number, one in enumerate(loaded):
            if number >= _MOST_LOADED or not self._is_close(one):
                self._close(one)

    def _fail(self, one: _Entrant, error: EdgeclfError) -> None:
        self._entrants.remove(one)
        self._close(one)
        self._send({"name": one.candidate.name, "failed": str(error)})

    def _close(self, one: _Entrant) -> None:
        classifier, one.classifier = one.classifier, None
        if classifier is not None:
            close_quietly(classifier.runner)
