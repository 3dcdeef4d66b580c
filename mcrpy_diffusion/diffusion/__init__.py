"""The diffusion maths: torch only, no paths, no settings."""
