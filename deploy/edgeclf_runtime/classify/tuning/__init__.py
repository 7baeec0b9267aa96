"""Measures which model, backend and number of threads are fastest on this device, and remembers it."""
