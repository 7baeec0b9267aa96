"""Renders a page from its template and plain values.

Every value is text, whatever it contains: names of labels, files and layers are the user's.  A page is one file: its style and
pictures are in it, and its content security policy lets a browser run and load nothing else.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from edgeclf_runtime import __version__

from ..report import drawable

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """Return a page of ``templates/`` with its values, as HTML."""
    return _environment().get_template(template).render(version=__version__, **values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("edgeclf.display.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: object) -> object:
    """Return what a template shows of a value: no control codes, nothing for None; what is HTML already stays."""
    if value is None:
        return ""
    return drawable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
