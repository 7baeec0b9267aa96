"""The training loop: a head on cached features, or a whole network on images; see :mod:`.head` and :mod:`.network`."""
