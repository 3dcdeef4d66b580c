"""MCRpy optimizer plugins, one class and one module each."""
