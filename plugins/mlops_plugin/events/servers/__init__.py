"""Connections to an event store that is a server: how they are made, and how long they are waited for."""
