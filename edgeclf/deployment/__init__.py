"""Deployment: export, bundle and engines."""
