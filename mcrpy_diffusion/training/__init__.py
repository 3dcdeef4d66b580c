"""Training: a data set -> a model."""
