"""Options as a YAML file: every run has its own, train.yaml, and ``--config`` takes it back."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Union, get_args, get_origin, get_type_hints

from ..errors import OptionError, reason

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_MAX_BYTES = 1 << 20


def write_config(file: str | Path, options: DataclassInstance, command: str) -> None:
    """Write all options of a dataclass; command: the one that takes the file back, for its first line."""
    import yaml

    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    Path(file).write_text(f"# {command} --config {Path(file).name}\n{text}", encoding="utf-8")


def read_config(file: str | Path, kind: type[DataclassInstance]) -> dict[str, object]:
    """Return the options of a YAML file as keywords of a dataclass; OptionError for a name or value that does not fit."""
    import yaml

    # Not imported above, since each command imports this module.
    from edgeclf_runtime.files.read import read_bytes

    try:
        values = yaml.safe_load(read_bytes(file, _MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise OptionError(f"{file} cannot be read as YAML ({reason(error)})") from None
    if not isinstance(values, Mapping):
        raise OptionError(f"{file} holds {type(values).__name__}; lines of the form epochs: 12 were expected")
    hints, found = get_type_hints(kind), {}
    names = [one.name for one in fields(kind)]
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise OptionError(
                f"{file}: there is no option {str(key)!r}{f'; did you mean {near[0]}?' if near else ', remove the line'}"
            )
        found[name] = _converted(file, name, value, hints[name])
    return found


def _converted(file: str | Path, name: str, value: object, hint: object) -> object:
    """Return a value of YAML as an option's type has it."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for kind in kinds:
        if get_origin(kind) is tuple:
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                return tuple(value)
        elif kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            # In YAML 1.1, 1e-3 is text.
            try:
                return float(value)
            except ValueError:
                continue
        elif type(value) is kind:
            return value
    wanted = " or ".join("nothing" if kind is type(None) else getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise OptionError(f"{file}: {name} is {value!r}; {wanted} was expected")
