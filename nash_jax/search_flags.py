"""The flags of `nash search` and of all launchers: one per setting, and others."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

from absl import flags

from nash_jax.runs import PRESETS, RECIPES, Config, preset
from nash_jax.runs.config import all_settings
from nash_jax.runs.places import EXECUTORS

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define, once a process, a flag per setting of `Config`, and flags that decide no result."""
    if "preset" in FLAGS:
        return
    flags.DEFINE_enum("preset", "paper", list(PRESETS), "replaces defaults; given flags win")
    flags.DEFINE_enum("recipe", "paper", list(RECIPES), "how to train; replaces defaults likewise")
    flags.DEFINE_string(
        "workdir",
        None,
        "folder for the run: new, empty, or that of an earlier run, which then goes on; default: "
        "the first of runs/DATASET-1, -2, ... that is new (of tables and figures: "
        "runs/DATASET-PRESET-RECIPE, where they share their runs)",
    )
    flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets are; default: their own place")
    flags.DEFINE_enum(
        "progress",
        "rich",
        ["rich", "plain", "quiet"],
        "a bar and lines, lines for logs, or nothing",
    )
    flags.DEFINE_boolean("tensorboard", False, "write learning curves for TensorBoard too")
    flags.DEFINE_enum(
        "keep", "best", ["best", "all"], "weights to keep: the best of every step, or all"
    )
    flags.DEFINE_float(
        "checkpoint_seconds", 60.0, "between two writings of a training that is not finished", 0.0
    )
    flags.DEFINE_integer(
        "workers",
        0,
        "children trained side by side on CPU, with the same result; 0: one per core, of the "
        "cluster with --executor=ray",
    )
    flags.DEFINE_enum(
        "executor",
        "auto",
        list(EXECUTORS),
        "where children are trained, with the same result; auto: processes on CPU, else devices",
    )
    flags.DEFINE_string(
        "address",
        "auto",
        "cluster of --executor=ray: auto, the one that this machine is a node of; local, a new one "
        "of this machine alone; HOST:PORT; or ray://HOST:PORT",
    )
    flags.DEFINE_boolean(
        "baseline",
        False,
        "after the search also train model_0, for as many epochs as the best network has been, and "
        "judge it on the validation images; a finished run can do it later",
    )
    flags.DEFINE_list("devices", [], "numbers of the accelerators for the children; default: all")
    flags.DEFINE_integer(
        "per_device",
        1,
        "children trained side by side on each accelerator, where memory allows",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "cache_dir",
        "",
        "folder that keeps compiled programs; default: ~/.cache/nash_jax; or 'none'",
    )
    flags.DEFINE_string(
        "table", None, "npz or csv file of results: the search looks them up, and trains nothing"
    )
    flags.DEFINE_string("table_data", "", "which data set of the table")
    flags.DEFINE_integer(
        "table_epochs", 0, "epochs of the table's trainings that a search sees; 0: the fewest", 0
    )
    flags.DEFINE_float(
        "seconds", 0.0, "limit of a search in a table, by the table's clock; 0: none", 0.0
    )
    flags.DEFINE_integer(
        "repeats",
        0,
        "searches in a table, each with a seed of its own, from --seed on; 0: one. Of a table or "
        "figure of a paper: seeds of every row; 0: as many as in the paper; preset small: 3",
    )
    define: dict[type, Any] = {
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        bool: flags.DEFINE_boolean,
        str: flags.DEFINE_string,
        tuple: flags.DEFINE_list,
    }
    flags.DEFINE(_TimeParser(), "hours", 0.0, "as --minutes, in hours")
    for name, group, value, default, words in all_settings():
        if name == "minutes":
            flags.DEFINE(_TimeParser(), name, default, words)
            continue
        texts = [str(item) for item in value] if isinstance(value, tuple) else value
        define[type(default)](name, texts, words)
        if group != name:
            flags.DEFINE_alias(f"{group}.{name}", name)


#: Minutes or hours that a run may have: those of nineteen years, or more.
MOST_TIME = 1e7


class More(float):
    """So much more time than a run has had."""


class _TimeParser(flags.ArgumentParser[float]):
    """10, or +10 for `More`."""

    syntactic_help = "a number, or +NUMBER for so much more than a run has had"

    def parse(self, argument: Any) -> float:
        value = float(argument)
        if not 0 <= value <= MOST_TIME:
            raise ValueError(f"must be a number from 0 to {MOST_TIME:.0f}; got {argument}")
        if not str(argument).strip().startswith("+"):
            return value
        if not value:
            raise ValueError(f"must be more than 0 behind the +; got {argument}")
        return More(value)

    def flag_type(self) -> str:
        return "float"


def help_text() -> str:
    """All flags by group, each with its default."""
    groups: dict[str, list[str]] = {"": ["preset", "recipe"]}
    for setting in all_settings():
        groups.setdefault(setting.group, []).append(setting.name)
    known = {name for names in groups.values() for name in names}
    ours = [flag.name for flag in FLAGS.flags_by_module_dict()[__name__]]
    groups["run"] += [name for name in ours if name not in known and "." not in name]
    lines = ["nash search --dataset=DATA [--preset=PRESET] [--FLAG=VALUE ...]"]
    for group, names in groups.items():
        title = f"{group}: also as --{group}.FLAG" if group else "many settings at once"
        lines += ["", "training" if group == "recipes" else title]
        for name in names:
            flag = FLAGS[name]
            default = "" if flag.default in (None, "", []) else f" ({flag.default_as_str})"
            words = textwrap.wrap(f"{flag.help}{default}", 74)
            lines += [f"  --{name}", *(f"      {line}" for line in words)]
    return "\n".join(lines)


def config_from_flags() -> Config:
    """The paper's defaults, replaced by preset, recipe and the flags that were given."""
    return preset(FLAGS.preset, FLAGS.recipe, **given_settings())


def given_settings() -> dict[str, Any]:
    """The settings whose flags were given."""
    names = [setting.name for setting in all_settings() if FLAGS[setting.name].present]
    given: dict[str, Any] = {name: FLAGS[name].value for name in names}
    for name, value in given.items():
        if isinstance(value, list):
            if not all(word.strip().isdecimal() for word in value):
                raise ValueError(f"{name} must be whole numbers like 2,4; got {','.join(value)}")
            given[name] = tuple(map(int, value))
    if FLAGS["hours"].present:
        if "minutes" in given:
            raise ValueError(
                f"give minutes or hours, not both; got {given['minutes']:g} and {FLAGS.hours:g}"
            )
        given["minutes"] = type(FLAGS.hours)(60 * FLAGS.hours)
    return given


def arguments() -> list[str]:
    """Those of this process, for absl, which knows --help and not -h."""
    return ["--help" if word == "-h" else word for word in sys.argv]


def parse(argv: list[str]) -> list[str]:
    """The words that are no flags; what is wrong with a flag ends the program with a line."""
    try:
        return FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"error: {str(error).splitlines()[0]}; --help lists all flags")
