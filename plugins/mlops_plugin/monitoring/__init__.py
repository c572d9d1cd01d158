"""Hosts, databases and models: how they are, how they were, and who is told when that changes."""
