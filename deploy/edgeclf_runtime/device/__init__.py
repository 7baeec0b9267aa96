"""The machine and this process: facts, limits, child processes, signals, systemd."""
