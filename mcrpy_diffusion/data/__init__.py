"""Data: micrographs, the data set of training structures, the encoding of phases, and augmentation."""
