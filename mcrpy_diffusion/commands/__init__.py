"""The commands and the graphical interface."""
