"""Text that people read or that must not leak: addresses, secrets, terminals, logs."""
