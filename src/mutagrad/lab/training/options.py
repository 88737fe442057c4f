"""The settings of a training run, stated once: the command line, its help and the saved configuration follow from here."""

import argparse
import dataclasses
import math
import operator
import os
from collections.abc import Callable
from typing import Any, get_args, get_origin

__all__ = ["LARGEST", "MAY_CHANGE", "TrainConfig", "add_arguments", "from_saved", "to_saved"]

ALGORITHMS = (
    *("elitist", "comma", "greedy", "metropolis", "logistic", "boltzmann", "fixation", "truncation"),
    "weighted_recombination",
)
MODELS = ("mlp", "convnet")
INITIAL = ("lecun", "pytorch")
MASKS = ("shared", "separate")
OF_CONVNET = ("num_maps", "num_linear", "input_dropout", "dropout", "masks", "spectral_normalization")
"""Settings that the mlp has not."""
MAY_CHANGE = ("generations", "seconds", "target", "data_dir", "out", "resume")
"""Settings that a run may go on with other values of."""
LARGEST = 2**31 - 1
"""Whole numbers are no larger on the device."""
_PATHS = ("data", "data_dir", "out")
_WORDS = {str: "a text", bool: "True or False", int: "a whole number", float: "a number", type(None): "None"}


def _number(kind: type, remedy: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"got {text!r}, pass {remedy}") from None

    return parse


whole = _number(int, "a whole number")
real = _number(float, "a number")


def path(text: str) -> str:
    """A path; ~ at its beginning is the home folder.

    Raises
    ------
    argparse.ArgumentTypeError : for ~ of somebody who has none.
    """
    found = os.path.expanduser(text)
    if found.startswith("~"):
        raise argparse.ArgumentTypeError(f"got {text!r}, whose home folder is not known; pass another path")
    return found


def _sigma(text: str) -> str | float:
    return text if text == "auto" else _number(float, "'auto' or a positive number")(text)


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, pass whole numbers such as 32 or 64,32") from None


def _option(default: Any, metavar: str, text: str, parse: Callable[[str], Any] = str, unset: str = "") -> Any:
    """A setting: its default, and how the command line reads and explains it; ``unset`` says what ``None`` stands for."""
    return dataclasses.field(
        default=default, metadata={"metavar": metavar, "help": text, "parse": parse, "unset": unset}
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of `mutagrad.lab.training.train.train`, with the names and defaults of the command line's.

    ``mutagrad train --help`` explains every one of them, from what stands beside it here. A path that begins with ~ is one in
    the home folder.

    Raises
    ------
    ValueError : if a value is of another kind, such as a text for a number; one line that names the setting.

    >>> from mutagrad.lab.training.options import TrainConfig
    >>> TrainConfig(widths=(64, 32)).num_offspring
    20
    """

    data: str = _option("digits", "NAME", "digits, mnist or the path of an .npz file")
    data_dir: str | None = _option(
        None, "DIR", "folder of MNIST's files", unset="that of MUTAGRAD_DATA, or ../shared/data"
    )
    task: str | None = _option(
        None,
        "NAME",
        "classification or regression",
        unset="regression of targets stored as real numbers, classification of whole ones",
    )
    standardize: bool | None = _option(
        None,
        "",
        "inputs of mean 0 and deviation 1 over the training examples",
        unset="on; off for the convnet and for principal components",
    )
    components: int | None = _option(
        None,
        "K",
        "principal components in place of the inputs, 0 for none",
        whole,
        "40 for an mlp on inputs longer than 100",
    )
    model: str = _option("mlp", "NAME", "mlp or convnet")
    widths: tuple[int, ...] = _option((32,), "N,N", "hidden units of the mlp, per layer", _widths)
    num_maps: int = _option(
        8, "N", "maps of the convnet's first convolution; the others have 2, 1 and ½ times as many", whole
    )
    num_linear: int = _option(24, "N", "units of the convnet's first linear layer", whole)
    input_dropout: float = _option(0.0, "P", "share of the pixels that the convnet drops in training", real)
    dropout: float = _option(0.0, "P", "share of the values that it drops before each further layer but the last", real)
    masks: str = _option("shared", "NAME", "masks of dropout: shared by a generation, or separate for each candidate")
    spectral_normalization: bool = _option(
        False, "", "the convnet's weights, but the last layer's, divided by their largest singular values", unset="off"
    )
    initial: str = _option("lecun", "NAME", "scale of the initial weights: lecun or pytorch")
    algorithm: str = _option("elitist", "NAME", f"{', '.join(ALGORITHMS)}")
    sigma: str | float = _option("auto", "σ", "mutation scale per parameter, or auto", _sigma)
    beta: float = _option(math.inf, "β", "inverse temperature of rules that have one [1/loss]", real)
    num_offspring: int = _option(20, "M", "offspring per generation", whole)
    num_parents: int = _option(1, "K", "survivors per generation, for truncation", whole)
    population_size: int = _option(100, "n", "population of the fixation rule", whole)
    shared_layers: int | None = _option(
        None,
        "L",
        "first layers that are mutated in turns with the others, whose offspring share what these compute",
        whole,
        "2 of the convnet, 0 of the mlp",
    )
    shared_generations: int = _option(
        9, "N", "generations in which they are shared, for each in which they are mutated", whole
    )
    unit_groups: int | None = _option(
        None,
        "G",
        "groups in which the hidden units of an mlp of one layer are mutated in turns, sharing what the others compute",
        whole,
        "of 16 units, on more than 4096 examples",
    )
    turn_generations: int | None = _option(
        None, "N", "generations of a group's turn", whole, "4; 1 where offspring recombine"
    )
    batch_size: int | None = _option(
        None,
        "B",
        "examples per generation",
        whole,
        "all up to 4096; of more, a size that grows with the share of sampling noise",
    )
    generations: int | None = _option(
        None, "N", "stop after so many generations", whole, "2000 if nothing else stops the run"
    )
    seconds: float | None = _option(None, "S", "stop after so many seconds of this sitting", real, "no limit")
    target: float | None = _option(
        None, "A", "stop at this test accuracy, from 0 to 1, or R² of a regression", real, "no target"
    )
    seed: int = _option(0, "N", "of initial weights, mutations and batches", whole)
    out: str | None = _option(None, "DIR", "run folder to write, new or empty", path, "none")
    resume: bool = _option(
        False,
        "RUN",
        "go on with the run in this folder, or in --out, with its own settings; data, model and algorithm stay",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            try:
                kept = _of_kind(field.type, value)
            except (TypeError, ValueError, OverflowError):
                shown = " ".join(repr(value).split())
                shown = shown if len(shown) < _LONGEST else f"{shown[:_LONGEST]}…"
                raise ValueError(f"{field.name}: got {shown}; pass {_words(field.type)}") from None
            if field.name in _PATHS and kept is not None:
                try:
                    kept = path(kept)
                except argparse.ArgumentTypeError as error:
                    raise ValueError(f"{field.name}: {error}") from None
            object.__setattr__(self, field.name, kept)


_LONGEST = 80
"""Letters of a value that an error shows."""


def _of_kind(kind: Any, value: Any) -> Any:
    """The value as plain Python has it, so that JSON does too; a TypeError if it is of another kind."""
    if get_origin(kind) is tuple:
        if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
            raise TypeError
        return tuple(_of_kind(get_args(kind)[0], one) for one in value)
    for one in get_args(kind) or (kind,):
        is_truth = isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"
        if one is type(None) and value is None:
            return None
        if one is bool and is_truth:
            return bool(value)
        if one is str and isinstance(value, str | os.PathLike):
            return os.fspath(value)
        if one is int and not is_truth and hasattr(value, "__index__"):
            return operator.index(value)
        if one is float and not is_truth and hasattr(value, "__float__"):
            return float(value)
    raise TypeError


def _words(kind: Any) -> str:
    """What a setting takes."""
    if get_origin(kind) is tuple:
        return "whole numbers such as (32,) or (64, 32)"
    if kind == str | float:
        return "'auto' or a positive number"
    return " or ".join(_WORDS[one] for one in get_args(kind) or (kind,))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every setting to a parser that leaves those that are not given out of what it returns."""
    for field in dataclasses.fields(TrainConfig):
        known = field.metadata
        flag, default = f"--{field.name.replace('_', '-')}", _shown(field)
        text = (known["help"] + (f" ({default})" if default else "")).replace("%", "%%")
        options: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "help": text}
        if field.name == "resume":
            parser.add_argument(flag, nargs="?", const=True, type=path, metavar=known["metavar"], **options)
        elif "bool" in str(field.type):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        else:
            parser.add_argument(flag, type=known["parse"], metavar=known["metavar"], **options)


def _shown(field: dataclasses.Field) -> str:
    if field.default is None or isinstance(field.default, bool):
        return field.metadata["unset"]
    return ",".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)


def to_saved(config: TrainConfig) -> dict[str, Any]:
    """The settings as JSON holds them.

    >>> from mutagrad.lab.training.options import TrainConfig, from_saved, to_saved
    >>> to_saved(TrainConfig())["beta"], from_saved(to_saved(TrainConfig())) == TrainConfig()
    ('inf', True)
    """
    return {name: str(value) if value == math.inf else value for name, value in dataclasses.asdict(config).items()}


def from_saved(saved: dict[str, Any]) -> TrainConfig:
    """The settings of a run from its configuration.

    Raises
    ------
    ValueError : if another version of this library wrote it, or it is damaged.
    """
    if not isinstance(saved, dict):
        raise ValueError(f"settings: got a {type(saved).__name__} where names and values belong; start a new run")
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    different = sorted(names ^ set(saved))
    if different:
        raise ValueError(
            f"settings: got those of another version, with or without {', '.join(different)}; use the version that wrote them"
        )
    values = saved | {"beta": math.inf} if saved["beta"] == "inf" else saved
    try:
        return TrainConfig(**values)
    except ValueError as error:
        raise ValueError(f"settings: {error}, or start a new run") from None
