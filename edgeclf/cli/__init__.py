"""The command line of the host: ``edgeclf``, or ``python -m edgeclf``."""

from . import commands  # noqa: F401 - each module adds its commands
from .app import app

__all__ = ["app"]
