"""The benchmark of MCRpy's descriptor-based reconstruction against the diffusion model."""
