"""The languages of the pages: one catalogue of texts for each, and how a page finds its own."""
