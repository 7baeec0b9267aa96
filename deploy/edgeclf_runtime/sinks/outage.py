"""Trouble in the world around a sink, told once when it begins and once when it is over."""


class Outage:
    """One kind of trouble that one sink can have.

    log     the logger of the sink's module
    name    what the messages begin with: a file, a broker
    """

    def __init__(self, log, name):
        self._log, self._name = log, name
        self.lasts = False

    def begin(self, reason):
        """Tell the reason, unless the trouble has been told already."""
        if not self.lasts:
            self._log.warning("%s: %s", self._name, reason)
        self.lasts = True

    def end(self, news):
        """Tell how it goes on, if there was any trouble."""
        if self.lasts:
            self._log.warning("%s: %s", self._name, news)
        self.lasts = False
