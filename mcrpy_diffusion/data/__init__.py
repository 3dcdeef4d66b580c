"""Data: reading micrographs, the folder of training samples, the encoding of phases, and augmentation."""
