"""Evaluation: how accurate, how certain and how fast a model is."""
