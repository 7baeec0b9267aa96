"""Pictures that are posted to the live page's server: their bodies, and their turns."""
