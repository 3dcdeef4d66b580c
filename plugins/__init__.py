"""MCRpy plugins: installed as `mcrpy_diffusion.plugins`, made visible to MCRpy by `mcrpy_diffusion.register()`."""
