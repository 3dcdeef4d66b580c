"""Measures of microstructures: mathematics only, on arrays."""
