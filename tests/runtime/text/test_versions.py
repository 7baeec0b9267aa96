"""Versions of libraries as numbers."""

from edgeclf_runtime.text.versions import version_numbers


def test_versions_compare_by_their_numbers():
    assert version_numbers("4.5.4-dev") == (4, 5, 4)
    assert version_numbers("4.13.0") > version_numbers("4.7.0")
    assert version_numbers("10.16.1.9", 2) == (10, 16)
