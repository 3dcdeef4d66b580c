"""What the diffusion actions of MCRpy's GUI show: the options of our commands, in groups, with help and choices.

Which options there are, and of what kind, comes from the parser of the commands, and so from the settings' dataclasses;
an option that the tables below do not know appears under "More options" with the parser's own help.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.settings import PRESETS, SAMPLERS, Preset, SamplingSettings, Settings, preset

ACTIONS = {
    "diffusion_generate": ("generate", "Diffusion: generate data"),
    "diffusion_train": ("train", "Diffusion: train"),
    "diffusion_sample": ("sample", "Diffusion: sample"),
    "diffusion_evaluate": ("evaluate", "Diffusion: evaluate"),
}
"""Command of the GUI (without blanks: it stands in a command line) -> our command, and what the sidebar shows."""

DESCRIPTIONS = {
    "generate": "From micrographs or an MCRpy characterization to a data set of training structures.",
    "train": "From a data set to a model. Stop saves the state; starting again with the same folder goes on.",
    "sample": "From a model to new structures. Structures that are there already are kept.",
    "evaluate": "Generated against original structures: figures, curves and report.html.",
}
_NAMES = ", ".join(pretrained.names()) or "none is installed"
COLOURS = {"label_color": "#000000", "help_color": "#000000"}
MORE = "More options"
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "generate": {
        "Source and result": ("micrograph", "descriptor_filename", "images", "material", "out"),
        "Structures": ("extent_x", "extent_y", "n_training_samples", "training_data", "held_out_fraction", "seed"),
        "Material": ("periodic", "isotropic", "use_multiphase", "grey_values"),
        "Reconstruction by MCRpy (where crops are not used)": (
            "descriptor_types",
            "descriptor_weights",
            "limit_to",
            "optimizer_type",
            "loss_type",
            "max_iter",
            "use_multigrid_descriptor",
            "paper_recipe",
        ),
        "Check of each reconstruction": (
            "volume_fraction_tolerance",
            "two_point_tolerance_percent",
            "lineal_path_tolerance_percent",
            "copy_tolerance",
        ),
        "Material fibre": ("volume_fraction", "shape", "radius", "radius_deviation", "min_gap"),
        "Material alloy": (
            "size_ratios",
            "volume_fractions",
            "grain_size",
            "boundary_width",
            "abnormal_fraction",
            "abnormal_ratio",
            "grain_ids",
        ),
        "Materials fibre and alloy": ("aspect_ratio", "orientation"),
        "Work": ("n_jobs", "scheduler", "verify"),
    },
    "train": {
        "Data and result": ("dataset", "out", "preset"),
        "Training": (
            "n_training_steps",
            "batch_size",
            "learning_rate",
            "learning_rate_schedule",
            "warmup_steps",
            "ema_decay",
            "gradient_clip",
            "augmentation",
            "seed",
        ),
        "Network": (
            "channels",
            "channel_multipliers",
            "n_residual_blocks",
            "attention_levels",
            "n_heads",
            "dropout",
            "patch_size",
            "condition_on_volume_fraction",
            "self_condition",
        ),
        "Diffusion": ("n_timesteps", "schedule", "prediction", "learned_variance", "skip_high_snr", "loss"),
        "Saving and speed": (
            "checkpoint_seconds",
            "checkpoint_steps",
            "keep_checkpoints",
            "preview_steps",
            "gradient_accumulation",
            "precision",
            "compile",
            "tensorboard",
        ),
    },
    "sample": {
        "Model and result": ("model", "out"),
        "Structures": ("n_samples", "extent_x", "extent_y", "seed"),
        "Sampling": ("sampler", "n_steps", "eta", "hold_volume_fraction", "batch_size", "precision"),
    },
    "evaluate": {
        "Structures and report": ("original", "generated", "held_out", "out"),
        "Measures": ("non_periodic", "features", "boundary_phase", "isotropic", "seed"),
        "Study of a model (in place of generated structures)": (
            "model",
            "likelihood",
            "n_images",
            "n_terms",
            "n_steps",
            "samplers",
            "n_samples",
        ),
    },
}
HELP: dict[str, dict[str, str]] = {
    "generate": {
        "micrograph": "Micrographs: .npy, .npz, .png, .tif, .jpg. Give these or a characterization.",
        "descriptor_filename": "An MCRpy characterization (.pickle) in place of micrographs.",
        "images": "In place of these: many images or stacks, all cropped. A folder can be typed in.",
        "material": "In place of these, or with a micrograph: one of six materials with a recipe of its own.",
        "paper_recipe": "With a material: MCRpy's settings as in the paper, which are slow.",
        "volume_fraction": "Volume fraction of the fibres.",
        "shape": "Cross-section of a fibre.",
        "radius": "Mean radius of a fibre in pixels.",
        "radius_deviation": "Standard deviation of the radius over its mean (log-normal).",
        "min_gap": "Least gap between two fibres in pixels.",
        "size_ratios": "Effective sizes of the kinds of grains, relative to each other.",
        "volume_fractions": "Volume fraction of each kind of grains.",
        "grain_size": "Effective diameter of the smallest grains in pixels.",
        "boundary_width": "Width of the grain boundaries in pixels.",
        "abnormal_fraction": "Volume fraction of grains that grow abnormally.",
        "abnormal_ratio": "Their size in terms of grain_size.",
        "aspect_ratio": "Length over width of grains, ellipses and rectangles.",
        "orientation": "Direction of their long axis in degrees.",
        "grain_ids": "Also write the map of the grains of each structure.",
        "scheduler": "Address of a Dask scheduler, whose workers are used.",
        "verify": "Check the data set in this folder, and nothing else.",
        "out": "Folder of the data set. Start again with the same folder to go on.",
        "extent_x": "Rows of a structure in pixels.",
        "extent_y": "Columns of a structure in pixels.",
        "n_training_samples": "Structures to make. Empty: 2000 crops, or 400 reconstructions.",
        "training_data": "Crops of the micrograph, MCRpy's reconstructions, or auto: crops where it is large enough.",
        "held_out_fraction": "Part of a micrograph kept from the training, 0 to 0.5.",
        "seed": "Of everything random.",
        "periodic": "Whether structures continue across their edges (crops never do).",
        "isotropic": "Whether the material is alike in all directions: allows quarter turns and mirror images.",
        "use_multiphase": "Needed for more than two phases.",
        "grey_values": "Keep grey values in place of phases.",
        "descriptor_types": "MCRpy's descriptors that new structures have to match. Ctrl-click selects several.",
        "descriptor_weights": "One number per descriptor, with blanks between them.",
        "limit_to": "Pixels to which the descriptors reach. Empty: half of the smaller extent.",
        "optimizer_type": "MCRpy's optimizer.",
        "loss_type": "MCRpy's loss.",
        "max_iter": "Iterations per structure, at most. Empty: 300 for each 64 pixels of the smaller extent.",
        "use_multigrid_descriptor": "MCRpy's multigrid descriptor.",
        "n_jobs": "Worker processes. Empty: one per core.",
        "volume_fraction_tolerance": "Largest difference of the volume fraction, absolute.",
        "two_point_tolerance_percent": "Largest discrepancy of the two-point correlation, in percent.",
        "lineal_path_tolerance_percent": "Largest discrepancy of the lineal path, in percent.",
        "copy_tolerance": "Nearer to the reference than this share of independent structures' distance is a copy.",
    },
    "train": {
        "dataset": "Folder of a data set, from 'Diffusion: generate data'.",
        "out": "Folder for model.safetensors and the training state.",
        "preset": "quick: minutes on a processor. small: half an hour with bfloat16. paper: as published, on a GPU.",
        "n_training_steps": "Training steps.",
        "batch_size": "Structures per step.",
        "learning_rate": "Adam's step size.",
        "learning_rate_schedule": "Constant, or falling as a cosine to a fiftieth.",
        "augmentation": "Turns structures by 180 degrees and shifts periodic ones, at random.",
        "warmup_steps": "Steps in which the learning rate rises from 0.",
        "ema_decay": "Decay of the average of the weights, which is the model.",
        "gradient_clip": "Largest norm of the gradient.",
        "seed": "Of everything random.",
        "channels": "Channels of the first level.",
        "channel_multipliers": "Channels of each level in multiples, with blanks between them.",
        "n_residual_blocks": "Residual blocks per level.",
        "attention_levels": "Levels with attention (0 is the finest), with blanks between them.",
        "n_heads": "Heads of the attention.",
        "dropout": "Share of activations left out in training, 0 to 0.9.",
        "patch_size": "Blocks of p x p pixels become channels.",
        "condition_on_volume_fraction": "Tell the network the volume fraction.",
        "n_timesteps": "Noise levels, at least 21.",
        "schedule": "How the noise grows.",
        "prediction": "What the network predicts (log_odds: phases only, without learned variance).",
        "learned_variance": "The network predicts the variance of a step too.",
        "self_condition": "Tell the network what it expected one step before.",
        "skip_high_snr": "Leave out noise levels that hide no phase (log_odds).",
        "loss": "Weights of the noise levels (likelihood: with log_odds).",
        "checkpoint_seconds": "Save the state every so many seconds.",
        "checkpoint_steps": "And every so many steps. 0: by time alone.",
        "keep_checkpoints": "Number of saved states kept.",
        "preview_steps": "A picture of eight structures every so many steps. 0: none.",
        "gradient_accumulation": "Parts of a batch, one after the other: the same result with less memory.",
        "precision": "auto: bfloat16 where the processor has it.",
        "compile": "Compile the network first; needs a C compiler.",
        "tensorboard": "Write TensorBoard files.",
    },
    "sample": {
        "model": f"A model.safetensors, from 'Diffusion: train' or Match, or a pretrained model's name: {_NAMES}.",
        "out": "Folder for the structures, <seed>.npy.",
        "n_samples": "Number of new structures.",
        "extent_x": "Rows in pixels. Empty: those of the training structures.",
        "extent_y": "Columns in pixels. Empty: those of the training structures.",
        "seed": "Structure i is drawn from seed + i alone.",
        "sampler": "ddim; ddpm: ancestral sampling; dpm_solver: needs the fewest steps. Empty: what a model's card "
        "recommends; without a card ddpm where the model predicts log odds, dpm_solver where v, else ddim.",
        "n_steps": "Denoising steps. Empty: what a model's card recommends; without a card 50, 20 or 150 with these.",
        "eta": "Noise that ddim adds on the way, 0 to 1.",
        "hold_volume_fraction": "Keep the volume fractions that the model is told exactly, where it can.",
        "batch_size": "Structures drawn at once: more need more memory.",
        "precision": "auto: bfloat16 where the processor has it.",
    },
    "evaluate": {
        "original": "Folder of the original structures (.npy), or a data set.",
        "generated": "Folder of the generated structures (.npy).",
        "held_out": "Folder of real structures that took no part in the training.",
        "out": "Folder for report.html, metrics.json and the pictures.",
        "non_periodic": "The structures do not continue across their edges.",
        "features": "Adds Frechet distance, precision and recall: vgg19 is there, inception (FID) may be downloaded.",
        "boundary_phase": "Phase of grain boundaries: measures the grains between them too.",
        "isotropic": "Look for copies in mirror images and quarter turns too.",
        "seed": "Of structures, crops and noise. Empty: 0.",
        "model": f"A model.safetensors, or a pretrained model's name: {_NAMES}.",
        "likelihood": "Bound of the original structures' likelihood under the model.",
        "n_images": "Structures behind the likelihood. Empty: 16.",
        "n_terms": "Time steps behind the likelihood. Empty: all.",
        "n_steps": "Sample with each of these numbers of steps, and measure; with blanks between them.",
        "samplers": "Samplers to compare. Ctrl-click selects several.",
        "n_samples": "Structures for each number of steps. Empty: 256.",
    },
}
CHOICES: dict[str, tuple[str, ...]] = {
    "preset": PRESETS,
    "training_data": ("auto", "crops", "descriptors"),
    "learning_rate_schedule": ("constant", "cosine"),
    "schedule": ("linear", "cosine"),
    "prediction": ("epsilon", "v", "x_0", "log_odds"),
    "loss": ("simple", "likelihood"),
    "precision": ("auto", "float32", "bfloat16"),
    "sampler": tuple(SAMPLERS),
    "samplers": tuple(SAMPLERS),
    "material": ("alloy", "fibre", "carbonate", "ceramics", "pmma", "copolymer"),
    "shape": ("disc", "ellipse", "rectangle"),
    "features": ("none", "vgg19", "inception"),
}
WIDGETS = {
    "micrograph": "MultiFileChooser",
    "images": "MultiFileChooser",
    "microstructure_filenames": "MultiFileChooser",
    "references": "MultiFileChooser",
    "descriptor_filename": "FileChooser",
    "model": "FileChooser",
    "dataset": "DirChooser",
    "original": "DirChooser",
    "generated": "DirChooser",
    "held_out": "DirChooser",
    "out": "DirChooser",
    "verify": "DirChooser",
}
_IMAGES = "*.npy;*.npz;*.png;*.tif;*.tiff;*.jpg;*.jpeg"
_KINDS = {
    "micrograph": f"Micrographs|{_IMAGES}",
    "images": f"Images and stacks|{_IMAGES}",
    "microstructure_filenames": f"Micrographs|{_IMAGES}",
    "references": "Structures (*.npy)|*.npy",
    "descriptor_filename": "MCRpy characterizations (*.pickle)|*.pickle",
    "model": "Models (*.safetensors, *.pt)|*.safetensors;*.pt",
}
"""What the file choosers offer first, as wxPython writes it: name|patterns."""
NUMBERS = {int: (r"[-+]?\d+", "a whole number"), float: (r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", "a number")}


@dataclass(frozen=True)
class Field:
    """One input of a form: the name of its option, its group, and the arguments of `GooeyParser.add_argument`."""

    name: str
    group: str
    arguments: dict[str, Any]


def form(command: str, parser: argparse.ArgumentParser, choices: Mapping[str, Sequence[str]]) -> list[Field]:
    """Return the inputs of a command's form, group by group.

    Parameters
    ----------
    command : str
        "generate", "train", "sample" or "evaluate".
    parser : ArgumentParser
        The command's.
    choices : mapping
        Names of options -> what is offered for them, besides `CHOICES`.

    Returns
    -------
    list of Field
        One for each option of the parser.
    """
    shown = [a for a in parser._actions if not isinstance(a, argparse._HelpAction) and a.help != argparse.SUPPRESS]
    actions = {_name(action): action for action in shown}
    groups = {name: group for group, names in GROUPS[command].items() for name in names}
    order = [name for name in groups if name in actions] + [name for name in actions if name not in groups]
    offered = {**CHOICES, **choices}
    return [_field(command, name, groups.get(name, MORE), actions[name], offered.get(name)) for name in order]


def number(kind: Any, *, many: bool = False) -> dict[str, Any]:
    """Return Gooey's options for a text field that takes a number of that type, or several with blanks between."""
    if kind not in NUMBERS:
        return dict(COLOURS)
    pattern, words = NUMBERS[kind]
    test = rf"\s*{pattern}(\s+{pattern})*\s*$" if many else rf"\s*{pattern}\s*$"
    message = f"not {words}" + (", or several with blanks between them" if many else "")
    return {**COLOURS, "validator": {"type": "RegexValidator", "test": test, "message": message}}


def options_of(name: str, kind: Any, *, many: bool = False) -> dict[str, Any]:
    """Return Gooey's options for an input: what its file chooser shows, or which numbers it takes."""
    if name in _KINDS:
        return {**COLOURS, "wildcard": f"{_KINDS[name]}|All files|*"}
    return number(kind, many=many)


def command_line(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Return what a form hands over (`--option True`) as our command takes it (`--option`, `--no-option`)."""
    switches = {a.option_strings[0] for a in parser._actions if isinstance(a, argparse.BooleanOptionalAction)}
    result: list[str] = []
    for word in arguments:
        if result and result[-1] in switches and word in ("True", "False"):
            result[-1] = result[-1] if word == "True" else f"--no-{result[-1].removeprefix('--')}"
        else:
            result.append(word)
    return result


def _name(action: argparse.Action) -> str:
    return action.option_strings[0].removeprefix("--")


def _field(command: str, name: str, group: str, action: argparse.Action, choices: Sequence[str] | None) -> Field:
    text = HELP[command].get(name) or action.help or ""
    default, note = _default(command, name)
    arguments: dict[str, Any] = {"help": f"{text} ({note})" if note else text, "metavar": name}
    if action.required:
        arguments["required"] = True
    if isinstance(action, argparse.BooleanOptionalAction):
        arguments.update(
            choices=("True", "False"), widget="Dropdown", default=None if default is None else str(default)
        )
    elif action.nargs == 0:
        arguments.update(action="store_true", widget="CheckBox")
    elif choices is not None:
        many = action.nargs in ("*", "+")
        arguments.update(choices=choices, widget="Listbox" if many else "Dropdown")
        arguments.update({"nargs": action.nargs, "default": list(default or ())} if many else {"default": default})
    else:
        many = action.nargs in ("*", "+")
        arguments.update(nargs=action.nargs, widget=WIDGETS.get(name, "TextField"), gooey_options={})
        arguments["default"] = " ".join(map(str, default)) if isinstance(default, tuple) else default
        arguments["gooey_options"] = options_of(name, action.type, many=many)
    arguments.setdefault("gooey_options", dict(COLOURS))
    return Field(name, group, arguments)


def _default(command: str, name: str) -> tuple[Any, str]:
    """Return what a form is filled with, and what it says about the presets.

    A training takes its values from the chosen preset, so that only those which all presets share are filled in.
    """
    if (command, name) == ("train", "preset"):
        return PRESETS[0], ""
    if command == "evaluate":
        return ("none" if name == "features" else None), ""
    name = "n_sampling_steps" if name == "n_steps" else name
    settings = {each: _settings(command, preset(each)) for each in PRESETS}
    if name not in settings[PRESETS[0]].__dataclass_fields__:
        return None, ""
    values = {each: getattr(of_preset, name) for each, of_preset in settings.items()}
    agree = len(set(values.values())) == 1
    note = "" if agree else ", ".join(f"{each}: {_text(value)}" for each, value in values.items())
    if command == "train":
        return (values[PRESETS[0]] if agree else None), note
    if command == "sample" and name in ("sampler", "n_sampling_steps"):
        return None, ""  # the model's card may recommend one
    default = SamplingSettings() if command == "sample" else type(settings[PRESETS[0]])()
    return getattr(default, name), note


def _settings(command: str, of: Preset) -> Settings:
    return {"generate": of.generation, "train": of.training, "sample": of.sampling}[command]


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "automatic" if value is None else str(value)
