"""``install-service``: installs ``run`` as a systemd service."""
