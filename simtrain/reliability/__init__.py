"""Reliability: a Job of failures, recoveries and checkpoints goes in, a RunResult comes out."""
