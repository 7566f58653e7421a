"""Operators, parameters and FLOPs of a model."""
