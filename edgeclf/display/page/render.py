"""Renders a page from its template and plain values; all text is escaped."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from edgeclf_runtime import __version__

from ..report import drawable

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
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
        finalize=lambda value: drawable(value) if type(value) is str else value,
    )
