"""Turns the options of a dataclass into options of a command."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, Optional, get_origin, get_type_hints

import typer

Command = Callable[..., None]


def expand_home(path: str) -> str:
    """Replace a leading ~, which shells leave alone in --output=~/runs; a usage error if there is no home folder."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~") and not os.path.lexists(expanded):
        # HOME is not set and /etc/passwd has no entry: a folder named "~" would be created.
        raise typer.BadParameter(
            f"{path!r}: there is no such home folder; set HOME, or write the full path or ./{path}"
        )
    return expanded


def with_options(kind: type[Any]) -> Callable[[Command], Command]:
    """Give a command the options of a dataclass, in place of its parameter ``options``, which receives them.

    kind: a dataclass; its fields made by :func:`edgeclf.options.option` become options.
    """
    hints = get_type_hints(kind)
    added = {field.name: _parameter(field, hints[field.name]) for field in fields(kind) if field.metadata}

    def decorate(function: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            parameters += added.values() if parameter.name == "options" else [parameter]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            given = {name: values.pop(name) for name in added}
            # An option that may be repeated and was not given keeps its default.
            options = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in given.items()
                if value is not None
            }
            function(options=kind(**options), **values)

        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        )
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def _parameter(field: Field[Any], hint: Any) -> inspect.Parameter:
    """Return a command's parameter for a field of a dataclass."""
    facts = field.metadata
    info = typer.Option(
        facts["name"] or f"--{field.name.replace('_', '-')}",
        help=facts["help"] + (f"  [default: {facts['shown']}]" if facts["shown"] else ""),
        metavar=facts["metavar"] or None,
        parser=expand_home if facts["path"] else None,
        min=facts["at_least"],
    )
    default = field.default
    if get_origin(hint) is tuple:
        hint, default = Optional[list[str]], None
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, info]
    )
