"""MySQL's binary protocol between a connected socket and Arrow: what `mysql` reads and writes rows with."""
