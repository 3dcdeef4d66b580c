"""Settings of stage 1: how training structures are made."""

from __future__ import annotations

from dataclasses import dataclass

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.base import Settings

N_CROPS, N_RECONSTRUCTIONS = 2000, 400
ITERATIONS = 300  # of MCRpy's optimizer for 64 x 64 pixels


@dataclass(frozen=True)
class GenerationSettings(Settings):
    """Stage 1: how the training data are made from a reference.

    The names that MCRpy also has (`descriptor_types` ... `use_multigrid_descriptor`) mean what they mean there.
    """

    extent_x: int = 64
    extent_y: int = 64
    training_data: str = "auto"  # crops of the micrograph, MCRpy's descriptor-based reconstruction, or auto
    n_training_samples: int | None = None  # None: N_CROPS or N_RECONSTRUCTIONS, as crops cost nothing
    held_out_fraction: float = 0.25  # part of a micrograph that no training crop touches
    periodic: bool = True
    use_multiphase: bool = False
    grey_values: bool = False
    isotropic: bool = False
    descriptor_types: tuple[str, ...] = ("FFTCorrelations",)
    descriptor_weights: tuple[float, ...] | None = None
    limit_to: int | None = None  # None: half of the smaller extent, so that S2 holds over the whole window
    optimizer_type: str = "LBFGSB"
    loss_type: str = "MSE"
    max_iter: int | None = None  # None: 300 for each 64 pixels of the smaller extent, and no fewer
    use_multigrid_descriptor: bool = False
    volume_fraction_tolerance: float = 0.01  # absolute, after rounding
    two_point_tolerance_percent: float = 10.0
    lineal_path_tolerance_percent: float = 25.0
    copy_tolerance: float = 0.1  # of 2 phi (1 - phi), the pixel MSE of two independent structures
    seed: int = 0

    def __post_init__(self) -> None:
        self._one_of(("auto", "crops", "descriptors"), "training_data")
        self._at_least(8, "extent_x", "extent_y")
        if self.n_training_samples is not None:
            self._at_least(2, "n_training_samples")
        if self.max_iter is not None:
            self._at_least(1, "max_iter")
        self._at_least(0, "seed", "volume_fraction_tolerance", "two_point_tolerance_percent")
        self._at_least(0, "lineal_path_tolerance_percent")
        self._between(0.0, 0.5, "held_out_fraction")
        self._between(0.0, 1.0, "copy_tolerance")
        if self.grey_values and self.use_multiphase:
            raise InputError("grey_values and use_multiphase were both given; allowed is one of them")

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns (I, J) of one sample; MCRpy calls them x and y."""
        return (self.extent_x, self.extent_y)

    @property
    def iterations(self) -> int:
        """Iterations of MCRpy's optimizer, at most: larger structures need more to become as good."""
        return self.max_iter or ITERATIONS * max(1, min(self.extent) // 64)


@dataclass(frozen=True)
class FibreSettings(Settings):
    """Fibre composite: random sequential addition. The volume fraction is the paper's; it leaves the radius open."""

    extent_x: int = 64
    extent_y: int = 64
    periodic: bool = True
    volume_fraction: float = 0.35
    radius: float = 5.0  # pixels; of the disc of the same area, for ellipses and rectangles
    radius_deviation: float = 0.0  # standard deviation over mean of log-normal radii; 0: all alike
    min_gap: float = 1.0  # pixels between any two fibres: no pixel of one is the neighbour of one of another
    shape: str = "disc"
    aspect_ratio: float = 2.0  # long over short axis, of ellipses and rectangles
    orientation: float | None = None  # degrees from the rows' axis to the long axis; None: random

    def __post_init__(self) -> None:
        self._one_of(("disc", "ellipse", "rectangle"), "shape")
        self._at_least(8, "extent_x", "extent_y")
        self._between(0.001, 0.9, "volume_fraction")
        self._between(0.5, 1e6, "radius")
        self._between(0.0, 1.0, "radius_deviation")
        self._between(0.0, 1e6, "min_gap")
        self._between(1.0, 50.0, "aspect_ratio")
        if self.orientation is not None:
            self._between(-360.0, 360.0, "orientation")

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns (I, J)."""
        return (self.extent_x, self.extent_y)


@dataclass(frozen=True)
class AlloySettings(Settings):
    """Polycrystal with grain boundaries as a phase. Ratios and fractions are the paper's; sizes in pixels are ours."""

    extent_x: int = 64
    extent_y: int = 64
    periodic: bool = True
    grain_size: float = 10.0  # pixels: effective diameter of the grains of ratio 1
    size_ratios: tuple[float, ...] = (1.0, 2.0, 2.5, 3.0, 4.0)
    volume_fractions: tuple[float, ...] = (0.15, 0.2, 0.3, 0.2, 0.15)
    boundary_width: float = 1.5  # pixels
    aspect_ratio: float = 1.0  # long over short axis of columnar grains
    orientation: float = 0.0  # degrees from the rows' axis to the long axis
    abnormal_fraction: float = 0.0  # volume fraction of abnormally grown grains
    abnormal_ratio: float = 8.0  # their size in terms of grain_size

    def __post_init__(self) -> None:
        self._at_least(8, "extent_x", "extent_y")
        self._between(2.0, 1e6, "grain_size")
        self._between(0.0, 1e6, "boundary_width")
        self._between(1.0, 20.0, "aspect_ratio")
        self._between(-360.0, 360.0, "orientation")
        self._between(0.0, 0.9, "abnormal_fraction")
        self._between(0.01, 1e3, "abnormal_ratio")
        if not self.size_ratios or len(self.size_ratios) != len(self.volume_fractions):
            raise InputError(
                f"size_ratios are {self.size_ratios} and volume_fractions {self.volume_fractions}; allowed are as many "
                "of one as of the other, at least one"
            )
        for name in ("size_ratios", "volume_fractions"):
            if not all(isinstance(value, (int, float)) and 0.01 <= value <= 1e3 for value in getattr(self, name)):
                raise InputError(f"{name} are {getattr(self, name)}; allowed are numbers from 0.01 to 1000")
        if abs(sum(self.volume_fractions) - 1) > 1e-3:
            total = sum(self.volume_fractions)
            raise InputError(f"volume_fractions {self.volume_fractions} add up to {total:g}; allowed is a sum of 1")

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns (I, J)."""
        return (self.extent_x, self.extent_y)
