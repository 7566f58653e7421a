"""Predictions against published measurements, and the calibration that fits coefficients to them."""
