"""The machine and this process on it: facts, limits, children, signals, systemd."""
