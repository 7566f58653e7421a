"""Importers: documents of other tools and tables become parts of a scenario."""
