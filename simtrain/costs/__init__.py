"""Costs: seconds of kernels and collectives, bytes of memory."""
