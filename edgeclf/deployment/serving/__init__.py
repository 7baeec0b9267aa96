"""A web server that classifies with bundles: ``edgeclf serve``."""
