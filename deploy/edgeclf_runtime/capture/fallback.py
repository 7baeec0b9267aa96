"""Falls back to decoding in software if the hardware's decoder fails for a live source.

The hardware is at fault if it gives no first frame, although the camera answered, is slower than the camera, reports an error or
crashes.  That is sure only once software shows frames: if it does not, the camera was at fault, and hardware is tried again.  A
decoder's name is therefore logged, and hardware given up for the rest of the run, at the first frame by software.
"""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .parent import CaptureProcess
    from .source import Source

_log = logging.getLogger(__name__)


class Fallback:
    """The Source that the next capture process opens.

    source      the Source as the user wants it
    """

    def __init__(self, source: "Source") -> None:
        self.source = self._wanted = source
        self._why = ""  # while software is being tried

    def after(self, capture: "CaptureProcess", reason: str) -> bool:
        """Return whether the decoder may be why a capture process failed, so that the next one decodes in software.

        reason  why it failed, for people
        """
        if self._why:
            self.source, self._why = self._wanted, ""
            return False
        if self.source.decode != "auto" or not capture.decoder_failed():
            return False
        self.source = self.source._replace(decode="software")
        self._why = "{} is decoded in software from now on, because {} failed in hardware: {}".format(
            self.source.name, capture.decoder, reason
        )
        return True

    def settle(self) -> None:
        """Take note that there are frames."""
        if self._why:
            _log.warning("%s", self._why)
            self._why = ""
