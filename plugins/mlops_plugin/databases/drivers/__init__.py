"""How Arrow rows get in and out of each database: one module or folder per driver."""
