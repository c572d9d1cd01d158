"""Which rows and answers a dispatch accepts, and where the others go."""
