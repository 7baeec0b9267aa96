"""Turns the options of a dataclass into options of a command."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Optional, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from ..options.config_file import read_config

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

Command = Callable[..., None]
_WIDEST = 50
"""Choices that are wider are listed in the text of the help."""
_LARGE = 5000
"""The help does not name the end of a range that is larger."""


def expand_home(path: str) -> str:
    """Replace a leading ~, which shells leave alone in --output=~/runs; a usage error if there is no home folder."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~") and not os.path.lexists(expanded):
        # HOME is not set and /etc/passwd has no entry: a folder named "~" would be created.
        raise typer.BadParameter(
            f"{path!r}: there is no such home folder; set HOME, or write the full path or ./{path}"
        )
    return expanded


class Grouped(TyperCommand):
    """A command whose help lists the options of each group under its own heading."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if record is not None:
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def with_options(kind: type[Any], config: bool = False) -> Callable[[Command], Command]:
    """Give a command the options of a dataclass, in place of its parameter ``options``, which receives them.

    kind: a dataclass; its fields made by :func:`edgeclf.options.option` become options.  config: also add the option
    --config, a YAML file with options, before which those of the command line have priority.
    """
    hints = get_type_hints(kind)
    own = [field for field in fields(kind) if field.metadata]
    added = {field.name: _parameter(field, hints[field.name], _group(kind, field.name)) for field in own}
    extra = [_CONTEXT, _CONFIG] if config else []

    def decorate(function: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            parameters += [*added.values(), *extra] if parameter.name == "options" else [parameter]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            given = {name: plain(values.pop(name)) for name in added}
            # An option that may be repeated and was not given keeps its default.
            options = {name: value for name, value in given.items() if value is not None}
            if config:
                context, file = values.pop("context"), values.pop("config")
                written = read_config(file, kind) if file else {}
                typed = [name for name in options if context.get_parameter_source(name).name == "COMMANDLINE"]
                options |= {name: value for name, value in written.items() if name not in typed}
            function(options=kind(**options), **values)

        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        )
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def choice(name: str, values: Iterable[str]) -> Any:
    """Return a type of parameter that takes one of these values, which its help lists; see :func:`plain`."""
    return Enum(name, {value: value for value in values}, type=str)


def plain(value: object) -> Any:
    """Return what typer gives for an option as the functions take it: a choice as text, several values as a tuple."""
    if isinstance(value, list):
        return tuple(plain(item) for item in value)
    return value.value if isinstance(value, Enum) else value


_CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Optional[str],
        typer.Option(
            metavar="FILE.yaml",
            parser=expand_home,
            help="Read options from a file, such as a run's train.yaml; those of the command line have priority.",
        ),
    ],
)


def _group(kind: type, name: str) -> str | None:
    """Return the heading of an option: that of the class which declares it."""
    for owner in kind.__mro__:
        if name in inspect.get_annotations(owner):
            group: str | None = owner.__dict__.get("GROUP")
            return group
    return None


def _parameter(field: Field[Any], hint: Any, group: str | None) -> inspect.Parameter:
    """Return a command's parameter for a field of a dataclass."""
    facts = field.metadata
    name, choices = facts["name"] or f"--{field.name.replace('_', '-')}", "|".join(facts["choices"])
    metavar = facts["metavar"] or (f"<{choices}>" if len(choices) <= _WIDEST else name.lstrip("-").upper())
    listed = f"  [{', '.join(facts['choices'])}]" if len(choices) > _WIDEST else _range_text(facts["between"])
    info = typer.Option(
        name,
        help=facts["help"] + listed + (f"  [default: {facts['shown']}]" if facts["shown"] else ""),
        metavar=metavar if choices or facts["metavar"] else None,
        parser=expand_home if facts["path"] else facts["parser"],
        rich_help_panel=group,
    )
    default, one = field.default, str
    if facts["parser"]:
        # Its values may have several types, which typer cannot express.
        hint, default = str, str(default)
    if facts["choices"]:
        one = choice(field.name, facts["choices"])
        hint = hint if get_origin(hint) is tuple else one if default is not None else Optional[one]
        default = one(default) if isinstance(default, str) else default
    if get_origin(hint) is tuple or facts["repeated"]:
        hint, default = Optional[list[one]], None  # type: ignore[valid-type]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, info]
    )


def _range_text(between: tuple[float, float] | None) -> str:
    """Return a range for the help; "" for none, and for one that says no more than that a value is not negative."""
    if between is None or (between[0] == 0 and between[1] > _LARGE):
        return ""
    low, high = between
    return f"  [{low} or more]" if high > _LARGE else f"  [{low} to {high}]"
