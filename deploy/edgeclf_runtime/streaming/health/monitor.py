"""Monitor, which compares a camera's images and results with a Baseline, in constant memory, and reports what has changed.

Images are taken in blocks.  A block has a symptom if its median is beyond the limits of training images; one evidence per
verdict collects them (``evidence.py``).  Light that at least 6 % of training images have, such as night, keeps half of
its images within the limits, and so gives no symptom however long it lasts.  Sharpness and layout do not depend on light: the
means of a longer block are compared with means of training images.  A scene that stays the same is one image, not many: it
counts only if it is beyond all training images.
"""

from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Set, Tuple

from ...files.schema import JsonObject
from ...results import USUAL
from .blocks import LONG, SHORT, Block
from .evidence import Evidence, limit_for
from .symptoms import COVERED, FROZEN, MIX, ORDER, SIGNS, STEADY, UNKNOWN, describe, outside
from .usual_images import UsualImages

if TYPE_CHECKING:
    import numpy as np

    from .baseline import Baseline
    from .measures import Measures

_NEW = 0.01  # mean squared difference of the layout of another content
_FROZEN = 100  # images in a row without any difference
_CLEAR = 8  # blocks with little evidence, after which a verdict ends
_CALM = 0.25  # of the limit: little evidence
_SUSPECT = 0.4  # of the limit: evidence for which verdicts of lower precedence wait
# The same for verdicts about results, which begin only after so many long blocks: a change of the picture makes images
# strange before it has enough evidence of its own.
_SUSPECT_CAUSE, _WAIT = 0.3, {UNKNOWN: 3, MIX: 2}
_RECENT = 12  # contents
_USUAL, _CHANGED = 0.02, 0.95  # chances of a symptom in a block
# Images may be strange, and a label may come, so much more often than in validation.
_ABOVE_STRANGE, _MIX_FACTOR, _MIX_ABOVE = 0.1, 1.1, 0.04
_FAR = 1 - USUAL  # share of validation images beyond a model's usual distance


class Change(NamedTuple):
    """A verdict that begins, or ends.

    verdict     one of symptoms.ORDER
    active      whether it begins
    text        the figure, in words
    """

    verdict: str
    active: bool
    text: str

    def __str__(self) -> str:
        return "{}: {}".format(self.verdict, self.text) if self.active else "no longer {}".format(self.verdict)


class Monitor:
    """Watches one camera; not for several threads.

    baseline    a Baseline
    labels      the names of the labels
    distances   whether results may have a distance
    """

    def __init__(self, baseline: "Baseline", labels: "List[str]", distances: bool = False) -> None:
        self.baseline, self.labels = baseline, list(labels)
        self.evidence: Dict[str, Evidence] = {name: Evidence(_USUAL, _CHANGED) for name in SIGNS}
        self._add_result_evidence(distances)
        self.active: Dict[str, int] = {}  # blocks without evidence, by verdict
        self._texts: Dict[str, str] = {}
        self._repeats, self._content = 0, -1
        self._anchor: "Optional[np.ndarray]" = None
        self._fresh: "Optional[Measures]" = None  # of a new content, until its result comes
        self._usual = UsualImages(baseline)
        self._counts: "Optional[np.ndarray]" = None
        self._strange_share = 0.0
        self._short, self._long = Block(*SHORT), Block(*LONG)
        self._waited = 0
        self._enough: Set[str] = set()

    def _add_result_evidence(self, distances: bool) -> None:
        import numpy as np

        low = self.baseline.low
        if low is not None or distances:
            # One evidence for both: the model may change, and with it whether there is a distance.
            usual = min(max(_FAR if distances else 0.0, low[1] if low else 0.0) + _ABOVE_STRANGE, 0.9)
            self.evidence[UNKNOWN] = Evidence(usual, usual + 0.4 * (1 - usual))
        if self.baseline.labels is not None:
            shares = np.minimum(_MIX_FACTOR * np.array(self.baseline.labels) + _MIX_ABOVE, 0.95)
            self.evidence[MIX] = Evidence(shares, shares + 0.5 * (1 - shares), limit_for(len(shares)))

    def add_image(self, measures: "Measures") -> List[Change]:
        """Take an image's Measures, at most about five a second; returns the Changes."""
        changes, is_new = self._watch_content(measures)
        for block in (self._short, self._long):
            block.add(measures, is_new)
            if block.is_full:
                self._end_block(block)
                changes += self._decide() + self._clear()
        return changes

    def _watch_content(self, measures: "Measures") -> Tuple[List[Change], bool]:
        self._repeats = self._repeats + 1 if measures.content == self._content else 0
        self._content = measures.content
        difference = None if self._anchor is None else measures.layout - self._anchor
        is_new = difference is None or float(difference.dot(difference)) > _NEW * difference.size
        if is_new:
            self._anchor, self._fresh = measures.layout, measures
        return self._watch_repeats(), is_new

    def _watch_repeats(self) -> List[Change]:
        if self._repeats >= _FROZEN and FROZEN not in self.active:
            return self._begin(
                FROZEN, "the same picture {} times in a row, to the last pixel".format(self._repeats + 1)
            )
        if self._repeats == 0 and FROZEN in self.active:
            return self._end(FROZEN)
        return []

    def _end_block(self, block: Block) -> None:
        import numpy as np

        values, coherence = block.values(self.baseline.layout)
        # A block of few contents is compared with single images.
        near, far = (outside(values, coherence, self.baseline, which) for which in (True, False))
        for name in SIGNS:
            if (name in STEADY) == (block is self._long):
                # A covered lens shows the same picture again and again, which is not an object that stays.
                sign = near.get(name) if block.has_several or name == COVERED else far.get(name)
                if sign is not None:
                    self._texts[name] = describe(values, self.baseline, sign)
                if sign is not None or block.has_several or name not in near:
                    self.evidence[name].add(np.asarray(sign is not None))
        if block is self._long:
            self._waited = self._waited + 1 if self._weigh_results() else 0
        block.clear()

    def _weigh_results(self) -> bool:
        """Update which verdicts about results have enough evidence (until it is halved); return whether any has half of it."""
        shares = {name: self.evidence[name].share for name in (UNKNOWN, MIX) if name in self.evidence}
        self._enough = {name for name, share in shares.items() if share >= (0.5 if name in self._enough else 1.0)}
        return any(share >= 0.5 for share in shares.values())

    def add_result(
        self, index: int, confidence: float, distance: Optional[float] = None, usual_distance: Optional[float] = None
    ) -> None:
        """Take the result for the image that was added last; it counts when the next block ends.

        index           of its label or candidate
        confidence      counts only if there is no distance
        distance        how far the image is from the training images
        usual_distance  its model's; USUAL of the validation images are nearer
        """
        measures, self._fresh = self._fresh, None
        if measures is None:
            return
        strange = self._watch_strange(confidence, distance, usual_distance)
        if distance is not None and not strange:
            self._usual.add(measures)
        if UNKNOWN in self.evidence and not self.evidence[UNKNOWN].total:
            self._usual.restart()
        self._watch_mix(index)

    def _watch_strange(self, confidence: float, distance: Optional[float], usual_distance: Optional[float]) -> bool:
        """Return whether a result is strange, after counting it."""
        import numpy as np

        evidence, low = self.evidence.get(UNKNOWN), self.baseline.low
        if evidence is None:
            return False
        # Written so that NaN counts as strange, too.
        if distance is not None and usual_distance is not None:
            strange, usual = not distance <= usual_distance, _FAR
            text = "are farther than {:.1f} from the training images".format(usual_distance)
        elif low is not None:
            strange, usual = not confidence >= low[0], low[1]
            text = "have a confidence below {:.2f}".format(low[0])
        else:
            return False
        self._strange_share += (strange - self._strange_share) / _RECENT
        evidence.add(np.asarray(strange))
        if evidence.share >= 1.0:
            self._enough.add(UNKNOWN)
        self._texts[UNKNOWN] = "{:.0f} % of the latest images {}, usual is {:.0f} %".format(
            100 * self._strange_share, text, 100 * usual
        )
        return strange

    def _watch_mix(self, index: int) -> None:
        import numpy as np

        mix = self.evidence.get(MIX)
        if mix is None:
            return
        one = np.arange(len(self.labels)) == index
        self._counts = one * 1.0 if self._counts is None else self._counts + (one - self._counts) / _RECENT
        mix.add(one)
        if mix.share >= 1.0:
            self._enough.add(MIX)

    def _mix_text(self) -> str:
        most = int(self.evidence[MIX].total.argmax())
        share = 0.0 if self._counts is None else float(self._counts[most])
        usual = (self.baseline.labels or ())[most]
        return "{:.0f} % of the latest images are {}, usual is {:.0f} %".format(
            100 * share, self.labels[most], 100 * usual
        )

    def _decide(self) -> List[Change]:
        """Begin the verdict of the highest precedence whose evidence is enough, unless a higher one is likely."""
        for name in ORDER:
            if name in self.active:
                self._forget_after(name)
                return []
            evidence = self.evidence.get(name)
            if evidence is None or (name in STEADY and self._usual.like_training):
                continue
            ready = name not in _WAIT or self._may_be_results(_WAIT[name])
            if ready and (evidence.share >= 1.0 or name in self._enough):
                self._forget_after(name)
                return self._begin(name, self._mix_text() if name == MIX else self._texts[name])
            if evidence.share >= _SUSPECT:
                return []
        return []

    def _may_be_results(self, wait: int) -> bool:
        """Return whether no change of the picture explains unusual results, which show sooner."""
        return self._waited >= wait and (
            self._usual.like_training or all(self.evidence[name].share < _SUSPECT_CAUSE for name in SIGNS)
        )

    def _forget_after(self, name: str) -> None:
        """Drop the evidence of lower precedence: it may be of the same cause."""
        for other in ORDER[ORDER.index(name) + 1 :]:
            if other in self.evidence and other not in self.active:
                self.evidence[other].reset()

    def _clear(self) -> List[Change]:
        changes = []
        for name in list(self.active):
            if name != FROZEN:
                self.active[name] = self.active[name] + 1 if self.evidence[name].share < _CALM else 0
                if self.active[name] >= _CLEAR:
                    changes += self._end(name)
        return changes

    def text(self, name: str) -> str:
        """Return an active verdict with the latest figure, in words."""
        found = self._texts.get(name)
        return "{}: {}".format(name, found) if found else name

    def _begin(self, name: str, text: str) -> List[Change]:
        self.active[name] = 0
        self._texts[name] = text
        return [Change(name, True, text)]

    def _end(self, name: str) -> List[Change]:
        del self.active[name]
        return [Change(name, False, "")]

    def state(self) -> JsonObject:
        """Return the evidence and the active verdicts as JSON can hold them."""
        evidence = {
            name: [round(float(one), 3) for one in found.total.ravel()] for name, found in self.evidence.items()
        }
        return {"labels": len(self.labels), "evidence": evidence, "active": dict(self.active)}

    def restore(self, state: JsonObject) -> None:
        """Continue from what state() returned; verdicts and evidence that this monitor does not have are left out."""
        import numpy as np

        for name, totals in state.get("evidence", {}).items():
            evidence = self.evidence.get(name)
            if evidence is not None and len(totals) == evidence.total.size:
                evidence.total = np.minimum(totals, evidence.limit).reshape(evidence.total.shape)
        self.active = {
            name: blocks for name, blocks in state.get("active", {}).items() if name in self.evidence or name == FROZEN
        }
