"""Scenarios as documents: their parts, how they are found, loaded, overridden and explained."""
