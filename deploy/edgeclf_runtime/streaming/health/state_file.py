"""A monitor's state in a small file, so that a restart neither forgets nor repeats what was reported."""

import json
import logging
import os
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from ...errors import OutputError
from ...files.outputs import new_file
from ...files.read import read_json, sha256_bytes
from ...files.schema import SchemaError, constant, integer, list_of, mapping, nullable, number, record, text
from ...files.user_folders import state_folder
from .baseline import MOST_LABELS, SCHEMA, Baseline, parse_baseline

if TYPE_CHECKING:
    from .monitor import Monitor

_log = logging.getLogger(__name__)
VERSION = 1
MOST_BYTES = 64 << 10
_ELSEWHERE = "set XDG_STATE_HOME to a folder that can be written"
_NAME = text(r"[a-z -]{1,40}", "a verdict")
STATE = record(
    {
        "version": constant(VERSION),
        "labels": integer(1),
        "evidence": mapping(_NAME, list_of(number(0, 100), 1, MOST_LABELS), most=40),
        "active": mapping(_NAME, integer(0), most=40),
        "learned": nullable(SCHEMA),
    }
)


def state_path(bundle_id: str, source: str) -> Optional[str]:
    """Return the path of the state of a bundle at a source, or None if this user cannot keep files."""
    folder = state_folder()
    name = "{}-{}.json".format(bundle_id[:12], sha256_bytes(source.encode("utf-8", "replace"))[:12])
    return os.path.join(folder, "health", name) if folder else None


def read_state(path: str, labels: int) -> "Tuple[Dict[str, Any], Optional[Baseline]]":
    """Return a state and its learned Baseline; ({}, None) if there is none, or, with a warning, if it cannot be used."""
    try:
        state = read_json(path, MOST_BYTES)
        STATE(state, "")
        if state["labels"] != labels:
            raise SchemaError("labels is {}; {} was expected".format(state["labels"], labels))
        learned = state["learned"]
        return state, None if learned is None else parse_baseline(learned, labels)
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError) as error:
        _log.warning("the health state %s cannot be used (%s); beginning without it", path, error)
        return {}, None


def write_state(path: str, monitor: "Monitor", learned: Optional[Baseline], durable: bool = False) -> None:
    """Write a monitor's state; a failure is logged, and does not raise."""
    state = dict(monitor.state(), version=VERSION, learned=None if learned is None else learned.to_dict())
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with new_file(path, overwrite=True, durable=durable, elsewhere=_ELSEWHERE) as work, open(work, "w") as stream:
            json.dump(state, stream)
    except (OSError, OutputError) as error:
        _log.warning("the health state cannot be written: %s", error)
