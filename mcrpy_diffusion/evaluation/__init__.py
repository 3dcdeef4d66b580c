"""Evaluation: structures -> figures of merit."""
