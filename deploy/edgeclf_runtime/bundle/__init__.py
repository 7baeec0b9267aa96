"""Bundles: verification, the manifest, and reading model files."""
