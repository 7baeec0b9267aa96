"""Photographs of a user."""

import shutil

import pytest


@pytest.fixture
def photos(digits, tmp_path):
    """A copy of the digits to spoil, its path full of spaces and letters."""
    return shutil.copytree(digits, tmp_path / "Große Photos" / "数字")
