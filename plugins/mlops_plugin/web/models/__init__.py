"""The list of models: a card for each, with how it did and how it is."""
