"""Turns plain PyTorch training scripts into Lightning modules that train identically."""

__version__ = "0.1.0"
