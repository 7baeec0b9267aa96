"""How training uses the machine: memory, precision, random numbers, processes, and what fails."""
