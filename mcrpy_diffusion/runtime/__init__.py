"""Interface to the machine: console, progress, memory, processes."""
