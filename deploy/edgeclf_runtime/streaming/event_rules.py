"""EventRule, when a label's stay in front of the camera counts as an event, and its form on the command line."""

import difflib
from typing import Dict, NamedTuple, Sequence, Tuple

from ..errors import OptionError
from ..results import UNKNOWN

EVERY_LABEL = "*"
HOLD_S, MINIMUM = 0.5, 0.5
LEAVE_SHARE = 0.75  # of the minimum: the default of the lower limit
FORM = "'LABEL: hold=0.5, min=0.8, leave=0.6'"
_KEYS = ("hold", "min", "leave")


class EventRule(NamedTuple):
    """The limits of one label's events.

    label       the label, EVERY_LABEL, or "unknown" for rejected images
    hold_s      a label must be there, or be gone, for so long before that is reported
    minimum     confidence at which a label comes, above 0 to 1; None for rejected images, which have no limits
    leave       confidence below which it goes, above 0 to ``minimum``; between the two, nothing changes (hysteresis)
    """

    label: str
    hold_s: float = HOLD_S
    minimum: float = MINIMUM
    leave: float = LEAVE_SHARE * MINIMUM


def parse_rule(text: str) -> EventRule:
    """Return the rule in a text of the FORM, with defaults for what it leaves out; ValueError if it has another form.

    A label may contain colons: the last one of the text ends it.
    """
    label, colon, rest = text.rpartition(":")
    if not colon:
        label, rest = text, ""
    label = label.strip()
    if not label:
        raise ValueError("{!r} has no label; {} was expected".format(text, FORM))
    given: Dict[str, float] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, value = _parse_setting(part)
        if key in given:
            raise ValueError("{} is given twice in {!r}".format(key, text))
        given[key] = value
    if label == UNKNOWN and set(given) - {"hold"}:
        raise ValueError(
            "{!r} has a confidence, but images are {} because theirs is too low: only hold was expected".format(
                text, UNKNOWN
            )
        )
    minimum = given.get("min", max(MINIMUM, given.get("leave", 0.0)))
    leave = given.get("leave", LEAVE_SHARE * minimum)
    if leave > minimum:
        raise ValueError("leave={:g} is above min={:g} in {!r}; at most min was expected".format(leave, minimum, text))
    return EventRule(label, given.get("hold", HOLD_S), minimum, leave)


def _parse_setting(text: str) -> Tuple[str, float]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError(
            "{!r} is not a setting; KEY=NUMBER was expected after the last colon, with a KEY of {} (a label that contains a "
            "colon needs one after it, too)".format(text, ", ".join(_KEYS))
        )
    if key not in _KEYS:
        raise ValueError("{!r} is not a setting; {} were expected".format(key, ", ".join(_KEYS)))
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if key == "hold" and not 0 <= number < float("inf"):
        raise ValueError("hold={} is not a number of seconds, 0 or more".format(value))
    if key != "hold" and not 0 < number <= 1:
        raise ValueError("{}={} is not a confidence above 0, at most 1".format(key, value))
    return key, number


def rules_by_label(rules: Sequence[EventRule], labels: Sequence[str]) -> Dict[str, EventRule]:
    """Return the rule of each label that has events.

    A rule for EVERY_LABEL is for all labels of the model without a rule of their own, but not for "unknown".

    Raises OptionError for a label that the model does not have, with the nearest names, and for one with two rules.
    """
    own: Dict[str, EventRule] = {}
    known = {*labels, UNKNOWN, EVERY_LABEL}
    for rule in rules:
        if rule.label not in known:
            near = difflib.get_close_matches(rule.label, labels, 3, 0.5) or labels[:10]
            raise OptionError(
                "there is no label {!r} for --event; the nearest are: {}".format(rule.label, ", ".join(near))
            )
        if rule.label in own:
            raise OptionError("--event is given twice for the label {!r}; give it once".format(rule.label))
        own[rule.label] = rule
    everywhere = own.pop(EVERY_LABEL, None)
    if everywhere is not None:
        own = dict({label: everywhere._replace(label=label) for label in labels}, **own)
    return own
