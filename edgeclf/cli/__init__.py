"""The command line of the host: ``edgeclf``, or ``python -m edgeclf``."""

from edgeclf_runtime.device.stop_signals import end_as_first_process

end_as_first_process()  # before the imports of the commands, which take a second

from . import commands  # noqa: E402, F401 - each module adds its commands
from .app import app  # noqa: E402

__all__ = ["app"]
