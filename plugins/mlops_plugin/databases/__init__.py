"""Rows in and out of SQL databases as Arrow, one module per way in."""
