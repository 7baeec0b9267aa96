import pytest

from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.posting import Desk


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def sink(desk):
    """A live page whose posted pictures the desk classifies; a module may have another one."""
    with LiveSink(":0", ["3"], classify=desk.classify) as opened:
        yield opened
        desk.door.set()
