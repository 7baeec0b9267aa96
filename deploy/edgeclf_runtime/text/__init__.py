"""Text for people: addresses and secrets that must not leak, terminal output, logs."""
