"""Trained models: on disk, ready to sample, and those that come with the package."""
