"""Writes a run's network in the formats of other runtimes: a module for each, and the table of them."""
