import shutil

import pytest


@pytest.fixture
def copied(bundle, tmp_path):
    """A copy of the bundle that a test may damage."""
    path = tmp_path / "copy.edge"
    shutil.copytree(str(bundle), str(path), ignore=shutil.ignore_patterns("__pycache__"))
    return path
