"""Everything that imports MCRpy: its commands, plugins, files and reconstruction, always imported inside functions."""
