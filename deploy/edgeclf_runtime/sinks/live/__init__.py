"""The live page: its server, its viewers, its secrets."""
