"""Settings of every stage."""
