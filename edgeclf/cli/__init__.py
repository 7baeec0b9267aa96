"""The command line of the host: ``edgeclf``, or ``python -m edgeclf``."""

from .commands import app

__all__ = ["app"]
