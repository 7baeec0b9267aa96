"""A backbone with random weights."""

import pytest
import timm
import torch

from tests.support.weights import SMALL


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(1)
    return timm.create_model(SMALL).eval()
