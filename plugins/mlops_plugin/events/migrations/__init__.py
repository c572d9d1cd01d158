"""Alembic environment of the event store; `migrating` runs it."""
