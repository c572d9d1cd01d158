"""Monitor: the state of models, hosts and databases."""
