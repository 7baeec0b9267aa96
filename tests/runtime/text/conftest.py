"""Secrets of one test only, and a command that fails."""

import pytest

from edgeclf_runtime.device.process_secrets import CAMERA, MQTT
from edgeclf_runtime.text import redaction
from tests.support.starting import output_of, start


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """Each test has its own secrets."""
    monkeypatch.setattr(redaction, "_known", {})
    monkeypatch.setattr(redaction, "_pattern", None)
    monkeypatch.delenv(CAMERA, raising=False)
    monkeypatch.delenv(MQTT, raising=False)


@pytest.fixture
def fails(bundle):
    """Start a command that cannot work; return all its output."""

    def fails(*arguments, **environment):
        code, out, err = output_of(start(bundle, *arguments, environment=environment))
        assert code != 0
        assert "Traceback" not in err
        return out + err

    return fails
