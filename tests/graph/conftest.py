from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def run(usual_run) -> Path:
    """A run whose network has depthwise convolutions, sums of branches and bounded activations."""
    return usual_run
