"""How a step is recorded in the event store: its start, its end, its report, and whether it was abandoned."""
