"""Sweeps: a grid of scenarios, worked out on all cores, kept in a journal, gathered in one table."""
