"""Accounting: what a Timeline says about time and memory."""
