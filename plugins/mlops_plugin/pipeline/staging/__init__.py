"""How rows and notes travel from one step to the next."""
