"""Dispatches: what ran and what came of it."""
