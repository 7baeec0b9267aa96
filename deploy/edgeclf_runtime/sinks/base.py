"""What every sink looks like from outside."""


class Sink:
    """A place where results go.  Used inside ``with``; called from one thread.

    A sink never stops the classification: what the world around it does (a disk that is full, a
    broker that is away, a page that nobody watches) is logged once, when it begins and when it
    ends, and results that could not be delivered are counted in ``lost``.  Opening is strict:
    what can never work raises OutputError at once.
    """

    lost = 0

    def write(self, item):
        """Take one StreamResult; must return within a few milliseconds.

        ``item.frame.image`` (BGR, uint8 [height, width, 3]) is valid during this call only: copy what is kept.
        """
        raise NotImplementedError

    def event(self, event):
        """Take one StreamEvent (a camera that was lost, or is back); most sinks have no use for it."""

    def close(self):
        """Deliver or store what is left, within a second; a second call does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
