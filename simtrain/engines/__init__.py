"""Engines: a Program goes in, a Timeline comes out."""
