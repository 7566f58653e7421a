"""Fitting of coefficients to published measurements: ``python -m simtrain.validation.calibrate.kernels``."""
