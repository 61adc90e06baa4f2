"""Bursar: the billing worker of hosted instances."""
