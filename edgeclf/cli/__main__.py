"""Runs the command line: ``python -m edgeclf.cli``."""

from . import app

if __name__ == "__main__":
    app()
