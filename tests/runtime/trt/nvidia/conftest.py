import os

import pytest


@pytest.fixture(scope="session")
def bundle(request):
    """The bundle of a network whose engines are larger than what TensorRT adds to each."""
    given = os.environ.get("EDGECLF_TEST_BUNDLE")
    return given or request.getfixturevalue("usual_bundle")
