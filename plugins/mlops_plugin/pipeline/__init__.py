"""The four steps of a dispatch and what carries rows between them."""
