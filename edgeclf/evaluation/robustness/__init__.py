"""Accuracy of a model on images that a camera, or an attacker, has made worse."""
