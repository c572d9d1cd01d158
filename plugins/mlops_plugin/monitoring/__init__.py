"""Hosts, databases and models: their state, their history, and notices of changes."""
