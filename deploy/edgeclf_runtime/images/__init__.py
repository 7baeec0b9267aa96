"""Photographs and arrays made into pixels, and pixels into a model's input."""
