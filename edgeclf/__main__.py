"""Runs the command line: ``python -m edgeclf``."""

from .cli import app

if __name__ == "__main__":
    app()
