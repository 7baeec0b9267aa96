"""The use of the machine by training: memory, precision, random numbers, processes and failures."""
