"""Failures, checkpoints and what they leave of the time: closed forms, engines, traces."""
