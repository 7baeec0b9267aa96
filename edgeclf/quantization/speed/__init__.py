"""How fast a file is: the fastest of its forms, and the time of each layer."""
