"""Which rows of its query a dispatch reads."""
