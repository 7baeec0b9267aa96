"""``install-service``: a systemd service of a ``run``."""
