"""The speed of a file: the fastest of its forms, and the time of each layer."""
