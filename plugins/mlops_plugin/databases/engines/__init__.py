"""One class per SQL engine: everything that differs between engines is a method of it."""
