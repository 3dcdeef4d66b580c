"""The commands of this package: each takes the options given and calls one function of the package."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from mcrpy_diffusion.commands.options import check_values, fields_of
from mcrpy_diffusion.commands.parser import make_parser
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.runtime.console import messages_of, run, say_error
from mcrpy_diffusion.settings import PRESET, GenerationSettings, PixelSize, RequestSettings, preset


def main(arguments: Sequence[str]) -> int:
    """Run a command of this package and return its exit status."""

    def start() -> None:
        parser = make_parser(arguments)
        options = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
        command = options.pop("command")
        check_values(parser.commands[command], options)
        with messages_of("mcrpy_diffusion.data"):
            STAGES[command](options)

    return run(start)


def run_pipeline(command: str, options: dict[str, Any]) -> None:
    """Run "match" or "reconstruct", with --method diffusion."""
    with messages_of("mcrpy_diffusion.data"):
        getattr(importlib.import_module("mcrpy_diffusion.workflow.pipeline"), command)(options)


def benchmark(options: dict[str, Any]) -> None:
    """Compare MCRpy's reconstruction with diffusion."""
    from mcrpy_diffusion.benchmark.run import benchmark as run_benchmark

    run_benchmark(options)


def generate(options: dict[str, Any]) -> None:
    """Make a data set."""
    from mcrpy_diffusion.materials.generate import generate as run_generate
    from mcrpy_diffusion.materials.generate import generate_from_images
    from mcrpy_diffusion.materials.generate_material import generate_material
    from mcrpy_diffusion.materials.reference import (
        Reference,
        reference_from_characterization,
        reference_from_images,
        reference_from_micrographs,
    )
    from mcrpy_diffusion.materials.resolve import resolve
    from mcrpy_diffusion.reports.segmentation import write_segmentation

    if "verify" in options:
        verify(options)
        return
    files, descriptor = options.pop("micrograph", None), options.pop("descriptor_filename", None)
    images, material = options.pop("images", None), options.pop("material", None)
    own = {k: options.pop(k) for k in ("paper_recipe", "grain_ids") if k in options}
    sources = [source is not None for source in (files, descriptor, images)]
    if sum(sources) > 1 or not (any(sources) or material) or (images and material) or (own and not material):
        raise InputError(
            "give one of --micrograph, --descriptor_filename, --images and --material (the first two also with "
            "--material); --paper_recipe and --grain_ids need --material"
        )
    if "out" not in options:
        raise InputError("give a folder for the data set with --out, or a data set to check with --verify")
    out, n_jobs, scheduler = options.pop("out"), options.pop("n_jobs", -1), options.pop("scheduler", None)
    reference: Reference | None = None
    if images:
        reference = reference_from_images(images, options)
        print(generate_from_images(reference, options, out))
        write_segmentation(out, reference.readings)
        return
    if descriptor is not None:
        reference = reference_from_characterization(descriptor)
    elif files is not None:
        reference = reference_from_micrographs(files, options)
    if material:
        print(generate_material(material, options, out, reference=reference, n_jobs=n_jobs, scheduler=scheduler, **own))
        write_segmentation(out, [] if reference is None else reference.readings)
    if material or reference is None:
        return
    settings = resolve(GenerationSettings().replace(**options), reference)
    made = run_generate(settings, reference, out, n_jobs=n_jobs, scheduler=scheduler)
    write_segmentation(made, reference.readings)
    print(f"{made}: {settings.n_training_samples} structures")


def verify(options: dict[str, Any]) -> None:
    """Check a data set."""
    from mcrpy_diffusion.materials.generate import verify as run_verify

    folder = options.pop("verify")
    if options:
        raise InputError(f"--verify must be given alone, got --{', --'.join(options)} too")
    print(run_verify(folder))


def train(options: dict[str, Any]) -> None:
    """Train on a data set, alone or with the other processes that torchrun started."""
    from mcrpy_diffusion.runtime import parallel

    folder, out, name = options.pop("dataset"), options.pop("out"), options.pop("preset", PRESET.default)
    preset(name).training.replace(**options)  # wrong settings end the command before the data set is read
    from mcrpy_diffusion.io.files import make_folder
    from mcrpy_diffusion.training.train import read_dataset
    from mcrpy_diffusion.training.train import train as run_train

    data = read_dataset(folder)
    settings = preset(name, (data.phases.shape[1], data.phases.shape[2])).training.replace(**options)
    shown = messages_of("mcrpy_diffusion.training") if parallel.is_main_process() else contextlib.nullcontext()
    if parallel.num_processes() > 1 and parallel.is_main_process():
        print(f"{parallel.num_processes()} processes share each batch", flush=True)
    with shown:
        path = run_train(data, settings, make_folder(out))
    if parallel.is_main_process():
        print(path)
    parallel.shutdown()


def sample(options: dict[str, Any]) -> None:
    """Sample from a model."""
    from mcrpy_diffusion.io.structure_files import Exports
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.models.request import make_request
    from mcrpy_diffusion.models.structure_folder import sample_to_folder

    wanted = RequestSettings(**{name: options.pop(name) for name in fields_of(RequestSettings) if name in options})
    model, out = load_model(options.pop("model")), options.pop("out")
    size = model.info.pixel_size
    exports = Exports(tuple(options.pop("formats", ())), None if size is None else size.metres)
    extent = (options.pop("extent_x", model.info.extent[0]), options.pop("extent_y", model.info.extent[1]))
    n_slices = options.pop("extent_z", 1)
    shape = extent if n_slices == 1 else (*extent, n_slices)
    options["n_sampling_steps"] = options.pop("n_steps", None)
    if model.info.card is not None:
        print(f"{model.info.card.name}: {model.info.card.licence}; {model.info.card.source}")
    settings = model.info.sampling_settings(len(shape), **options)
    request = make_request(wanted, model.info, settings, shape)
    if advice := request.advice(model.info):
        say_error(f"warning: {advice}")
    for line in request.describe():
        print(line.strip())
    print(sample_to_folder(model, settings, out, shape, request, exports))


def convert(options: dict[str, Any]) -> None:
    """Write structures in other formats."""
    from mcrpy_diffusion.workflow.convert import convert as run_convert

    size = options.pop("pixel_size", None)
    n, n_written = run_convert(**options, pixel_size=None if size is None else PixelSize.parse(size))
    print(f"structures: {n}; written: {n_written}; unchanged: {n - n_written}")


def models(options: dict[str, Any]) -> None:
    """List the pretrained models, or print the card of one."""
    from mcrpy_diffusion.models import pretrained

    print(pretrained.card_text(options["name"]).rstrip() if "name" in options else pretrained.table())


def export(options: dict[str, Any]) -> None:
    """Make a small file of a model, to pass on."""
    from mcrpy_diffusion.workflow.export import export as run_export

    print(run_export(options.pop("model"), options.pop("out"), **options))


def evaluate(options: dict[str, Any]) -> None:
    """Compare two folders of structures, or study a model."""
    if "model" in options:
        study(options)
        return
    extra = sorted({"likelihood", "n_images", "n_terms", "n_steps", "samplers", "n_samples"} & set(options))
    if extra:
        raise InputError(f"{', '.join(f'--{name}' for name in extra)} need --model")
    if "generated" not in options:
        raise InputError("give either --generated, or --model with --likelihood or --n_steps")
    from mcrpy_diffusion.workflow.compare import compare_folders

    print(compare_folders(**options))


def study(options: dict[str, Any]) -> None:
    """Study a model: its likelihood, its quality over the sampling steps, or both."""
    if "generated" in options or not {"likelihood", "n_steps"} & set(options):
        raise InputError("with --model give --likelihood or --n_steps, and no --generated")
    extra = sorted({"held_out", "boundary_phase", "isotropic", "properties"} & set(options))
    if extra:
        raise InputError(f"{', '.join(f'--{name}' for name in extra)} need --generated")
    from mcrpy_diffusion.materials.reference import image_settings
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.workflow import studies
    from mcrpy_diffusion.workflow.compare import feature_network, read_structures

    model = load_model(options["model"])
    structures = read_structures(options["original"], image_settings(options))

    def chosen(*names: str) -> dict[str, Any]:
        return {name: options[name] for name in names if name in options}

    if "likelihood" in options:
        print(studies.likelihood(model, structures, options["out"], **chosen("n_images", "n_terms", "seed")))
    if "n_steps" in options:
        network = feature_network(options.get("features", "none"), periodic=model.info.periodic)
        arguments = chosen("n_steps", "samplers", "n_samples", "seed")
        print(studies.step_study(model, structures, options["out"], features=network, **arguments))


STAGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "generate": generate,
    "train": train,
    "sample": sample,
    "convert": convert,
    "evaluate": evaluate,
    "models": models,
    "export": export,
    "benchmark": benchmark,
}
"""Name of a command -> what runs it with the options given."""
