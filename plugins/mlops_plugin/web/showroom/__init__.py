"""The Showroom: run a model on chosen cases."""
