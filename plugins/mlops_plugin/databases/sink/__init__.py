"""How one dispatch's predictions get into their table."""
