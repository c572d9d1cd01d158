"""Models run on chosen cases while a person waits: worker processes, cases, and the run itself."""
