"""Sources of training structures, one module per source."""
