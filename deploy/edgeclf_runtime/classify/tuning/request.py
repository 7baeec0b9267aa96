"""Request, what a measuring process is asked to do, as a line of JSON."""

import json
from typing import TYPE_CHECKING, List, NamedTuple

from ...bundle.open_bundle import Bundle, Model, model_of
from ...images.preprocess import Preprocessing
from .candidate import Candidate

if TYPE_CHECKING:
    from ...files.schema import JsonObject


class Request(NamedTuple):
    """A verified bundle, the candidates to measure, and the time for it.

    purpose     CAMERA or FILE
    budget_s    seconds, from the first opening on; a slow device takes longer to open each model once
    """

    bundle: Bundle
    candidates: List[Candidate]
    purpose: str
    budget_s: float

    def to_json(self) -> str:
        """Return it as one line; the bundle's provenance is left out."""
        bundle = dict(self.bundle._asdict(), provenance={}, models=[_plain(model) for model in self.bundle.models])
        found = [(one.model.name, one.backend, one.threads, one.at_once) for one in self.candidates]
        return json.dumps(dict(self._asdict(), bundle=bundle, candidates=found))

    @classmethod
    def from_json(cls, line: str) -> "Request":
        """Return the Request of to_json(); the bundle's files are verified again when they are read."""
        fields: "JsonObject" = json.loads(line)
        plain = fields["bundle"]
        models = tuple(model_of(model) for model in plain["models"])
        bundle = Bundle(
            **dict(
                plain,
                labels=tuple(plain["labels"]),
                models=models,
                preprocessing=Preprocessing(*plain["preprocessing"]),
            )
        )
        candidates = [Candidate(bundle.model(name), *rest) for name, *rest in fields["candidates"]]
        return cls(bundle, candidates, fields["purpose"], fields["budget_s"])


def _plain(model: Model) -> "JsonObject":
    """Return a model as the manifest has it, without its metrics."""
    tolerances = {name: limits._asdict() for name, limits in model.tolerances.items()}
    known = model.known_images and model.known_images._asdict()
    return dict(model._asdict(), metrics={}, tolerances=tolerances, known_images=known)
