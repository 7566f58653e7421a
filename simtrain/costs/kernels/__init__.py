"""Seconds of one kernel on one device, by family of kernels (``docs/model.md``, Kernels).

    time = latency + (compute^6 + memory^6)^(1/6)

What ``compute`` and ``memory`` are, a file of this folder says for each family.  Coefficients are those of the device's
kernel table (:mod:`simtrain.scenario.kernels`); ``python -m simtrain.validation.calibrate`` fits them.
"""

from simtrain.costs.kernels.model import MATMUL_CLASSES, KernelModel, KernelTime

__all__ = ["MATMUL_CLASSES", "KernelModel", "KernelTime"]
