"""Models' own environments: which libraries, where they are, how they are built and used."""
