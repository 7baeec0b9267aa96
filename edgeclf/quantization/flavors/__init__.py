"""Ways to write a model for a family of backends."""
