"""Reports: figures of merit -> pages and pictures."""
