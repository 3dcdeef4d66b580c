"""Settings of stage 1: how training structures are made."""

from __future__ import annotations

from dataclasses import dataclass

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.base import MAX_SEED, Settings, option
from mcrpy_diffusion.settings.images import ImageSettings

N_CROPS, N_RECONSTRUCTIONS = 2000, 400
MATERIALS = ("alloy", "fibre", "carbonate", "ceramics", "pmma", "copolymer")
_ITERATIONS = 300  # of MCRpy's optimizer for 64 x 64 pixels

_STRUCTURES, _MATERIAL = "structures", "material"
_RECONSTRUCTION = "reconstruction by MCRpy (where crops are not used)"
_CHECKS = "checks of each reconstruction"
_FIBRE, _ALLOY = "material fibre", "material alloy"


@dataclass(frozen=True)
class ExtentSettings(Settings):
    """The size of a structure."""

    extent_x: int = option(64, "rows of a structure", unit="pixels", low=8, beginner=True, group=_STRUCTURES)
    extent_y: int = option(64, "columns of a structure", unit="pixels", low=8, beginner=True, group=_STRUCTURES)

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns (I, J); MCRpy calls them x and y."""
        return (self.extent_x, self.extent_y)


@dataclass(frozen=True)
class GenerationSettings(ImageSettings, ExtentSettings):
    """Stage 1: how the training data are made from a reference.

    The names that MCRpy also has (`descriptor_types` ... `use_multigrid_descriptor`) mean what they mean there.
    """

    training_data: str = option(
        "auto",
        "crops of the micrograph, descriptors (reconstructions by MCRpy), or auto: crops of a micrograph that is large "
        "enough",
        choices=("auto", "crops", "descriptors"),
        beginner=True,
        group=_STRUCTURES,
    )
    n_training_samples: int | None = option(
        None,
        "number of training structures",
        low=2,
        if_none=f"{N_CROPS} crops or {N_RECONSTRUCTIONS} reconstructions",
        beginner=True,
        group=_STRUCTURES,
    )
    held_out_fraction: float = option(
        0.25, "fraction of a micrograph that no training crop overlaps", low=0.0, high=0.5, group=_STRUCTURES
    )
    periodic: bool = option(True, "reconstructions are periodic; crops never are", group=_MATERIAL)
    isotropic: bool = option(
        False, "the material is isotropic: quarter turns and mirror images are equivalent", group=_MATERIAL
    )
    descriptor_types: tuple[str, ...] = option(
        ("FFTCorrelations",), "MCRpy's descriptors that reconstructions match", group=_RECONSTRUCTION
    )
    descriptor_weights: tuple[float, ...] | None = option(
        None, "weight of each descriptor in the loss", if_none="1 each", group=_RECONSTRUCTION
    )
    limit_to: int | None = option(
        None,
        "largest distance in the descriptors",
        unit="pixels",
        low=1,
        if_none="half of the smaller extent",  # so that S2 holds over the whole window
        group=_RECONSTRUCTION,
    )
    optimizer_type: str = option("LBFGSB", "MCRpy's optimizer", group=_RECONSTRUCTION)
    loss_type: str = option("MSE", "MCRpy's loss", group=_RECONSTRUCTION)
    max_iter: int | None = option(
        None,
        "largest number of iterations per structure",
        low=1,
        if_none=f"{_ITERATIONS} for each 64 pixels of the smaller extent",
        group=_RECONSTRUCTION,
    )
    use_multigrid_descriptor: bool = option(False, "MCRpy's multigrid descriptors", group=_RECONSTRUCTION)
    volume_fraction_tolerance: float = option(
        0.01, "largest absolute error of the volume fraction, after rounding", low=0.0, group=_CHECKS
    )
    two_point_tolerance_percent: float = option(
        10.0, "largest discrepancy of the two-point correlation", unit="%", low=0.0, group=_CHECKS
    )
    lineal_path_tolerance_percent: float = option(
        25.0, "largest discrepancy of the lineal path", unit="%", low=0.0, group=_CHECKS
    )
    copy_tolerance: float = option(
        0.1,
        "a structure counts as a copy below this distance to the reference, relative to the expected distance of two "
        "independent structures, 2 phi (1 - phi)",
        low=0.0,
        high=1.0,
        group=_CHECKS,
    )
    seed: int = option(0, "random seed", low=0, high=MAX_SEED, beginner=True, group=_STRUCTURES)

    @property
    def iterations(self) -> int:
        """Largest number of iterations of MCRpy's optimizer: larger structures need more to become as good."""
        return self.max_iter or _ITERATIONS * max(1, min(self.extent) // 64)


@dataclass(frozen=True)
class FibreSettings(ExtentSettings):
    """Fibre composite: random sequential addition. The volume fraction is the paper's; it leaves the radius open."""

    periodic: bool = option(True, "structures are periodic", group=_MATERIAL)
    volume_fraction: float = option(0.35, "volume fraction of the fibres", low=0.001, high=0.9, group=_FIBRE)
    radius: float = option(
        5.0,
        "mean radius of a fibre, or of the disc of the same area",
        unit="pixels",
        low=0.5,
        high=1e6,
        group=_FIBRE,
    )
    radius_deviation: float = option(
        0.0, "standard deviation of the log-normal radius over its mean", low=0.0, high=1.0, group=_FIBRE
    )
    min_gap: float = option(  # with 1, no pixel of a fibre is a neighbour of a pixel of another
        1.0, "smallest gap between two fibres", unit="pixels", low=0.0, high=1e6, group=_FIBRE
    )
    shape: str = option("disc", "cross-section of a fibre", choices=("disc", "ellipse", "rectangle"), group=_FIBRE)
    aspect_ratio: float = option(
        2.0, "long over short axis of ellipses and rectangles", low=1.0, high=50.0, group=_FIBRE
    )
    orientation: float | None = option(
        None,
        "angle from the direction of increasing row to the long axis",
        unit="degrees",
        low=-360.0,
        high=360.0,
        if_none="random",
        group=_FIBRE,
    )


@dataclass(frozen=True)
class AlloySettings(ExtentSettings):
    """Polycrystal with grain boundaries as a phase. Ratios and fractions are the paper's; sizes in pixels are ours."""

    periodic: bool = option(True, "structures are periodic", group=_MATERIAL)
    grain_size: float = option(
        10.0, "effective diameter of the grains with size ratio 1", unit="pixels", low=2.0, high=1e6, group=_ALLOY
    )
    size_ratios: tuple[float, ...] = option(
        (1.0, 2.0, 2.5, 3.0, 4.0), "diameter of each class of grains over grain_size", low=0.01, high=1e3, group=_ALLOY
    )
    volume_fractions: tuple[float, ...] = option(
        (0.15, 0.2, 0.3, 0.2, 0.15), "volume fraction of each class of grains", low=0.01, high=1e3, group=_ALLOY
    )
    boundary_width: float = option(1.5, "width of the grain boundaries", unit="pixels", low=0.0, high=1e6, group=_ALLOY)
    aspect_ratio: float = option(1.0, "long over short axis of columnar grains", low=1.0, high=20.0, group=_ALLOY)
    orientation: float = option(
        0.0,
        "angle from the direction of increasing row to the long axis",
        unit="degrees",
        low=-360.0,
        high=360.0,
        group=_ALLOY,
    )
    abnormal_fraction: float = option(
        0.0, "volume fraction of abnormally grown grains", low=0.0, high=0.9, group=_ALLOY
    )
    abnormal_ratio: float = option(
        8.0, "diameter of abnormally grown grains over grain_size", low=0.01, high=1e3, group=_ALLOY
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.size_ratios or len(self.size_ratios) != len(self.volume_fractions):
            raise InputError(
                "size_ratios and volume_fractions must have the same number of values, at least one, got "
                f"{self.size_ratios} and {self.volume_fractions}"
            )
        total = sum(self.volume_fractions)
        if abs(total - 1) > 1e-3:
            raise InputError(f"volume_fractions must add up to 1, got {self.volume_fractions}, sum {total:g}")
