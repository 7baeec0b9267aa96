"""Makes a run of a classifier that another program trained."""
