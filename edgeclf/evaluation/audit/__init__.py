"""The audit of a data set: labels that are likely wrong, conflicting copies, and images that belong to no class."""
