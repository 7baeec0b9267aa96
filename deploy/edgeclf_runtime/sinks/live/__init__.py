"""The live page: its server, its clients, its secrets."""
