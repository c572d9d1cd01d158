"""Where `persist` puts predictions, what it adds to them, and how they are read back."""
