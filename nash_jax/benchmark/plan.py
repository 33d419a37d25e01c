"""What a benchmark is made of: which searches, which networks, how these are trained."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from nash_jax.benchmark.methods import Method, method_named
from nash_jax.checks import check_least, check_word, did_you_mean
from nash_jax.runs import RECIPES, Config
from nash_jax.runs.config import KINDS, all_settings, typed
from nash_jax.runs.presets import with_defaults

T = TypeVar("T")
#: The protocol by which each method's networks are trained as its own paper does it.
OWN = "own"
#: What images of a known set need, whoever trains on them.
OF_DATASETS: dict[str, dict[str, Any]] = {"digits": {"crop_padding": 1, "flip": False}}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A benchmark.

    Later settings win over earlier ones: those of the preset, of all runs, of the method or the
    protocol, of the set, `given`. A method that does not have a setting does without it.

    Attributes:
      methods: by name.
      datasets: by what `--dataset` takes, with the settings of each.
      protocols: how networks are trained, by name; None: each method's as its own paper does it.
      settings: of all runs.
      given: of all runs, and over all others.
      seeds: searches of every method on every set, from `seed` on.
      num_random: random networks of every space.
      seed: the first; all networks are trained with it, and the random ones drawn by it.
      against: a method that the others are compared with; they must search the same space.
      preset: defaults of all runs; its bound is of the space of morphs alone, as in `runs.preset`.
    """

    methods: Mapping[str, Method]
    datasets: Mapping[str, Mapping[str, Any]]
    protocols: Mapping[str, Mapping[str, Any] | None] = dataclasses.field(
        default_factory=lambda: {"paper": {}}
    )
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: int = 8
    num_random: int = 8
    seed: int = 0
    against: str = ""
    preset: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_least(self, seed=0)
        for name, number in (("seeds", self.seeds), ("random", self.num_random)):
            if number < 2:
                raise ValueError(
                    f"{name} must be >= 2, because a single one has no deviation; got {number}; "
                    "the paper has 8, and 3 give a rough interval"
                )
        for what in ("methods", "datasets", "protocols"):
            if not getattr(self, what):
                raise ValueError(f"{what} must be one or more; got none")
            paths = [name_in_paths(name) for name in getattr(self, what)]
            for name, path in zip(getattr(self, what), paths):
                if not path:
                    raise ValueError(f"{what} must have names with letters; got {name!r:.80}")
                if paths.count(path) > 1:
                    raise ValueError(
                        f"names of {what} must differ in letters and digits; several are {path!r}"
                    )
        _check_settings(self)
        first = next(iter(self.datasets))
        known = {n for method in self.methods for n in self.search(method, first, 0).values()}
        for name in self.given:
            if name not in known:
                raise ValueError(f"flags must be of a method here; got {name}; leave it out")

    def search(self, method: str, dataset: str, seed: int) -> Config:
        """The settings of a search; it ends before the final training.

        Raises:
          ValueError: if a setting breaks a rule, or is none of the method's.
        """
        own = self.methods[method].search
        settings = {**self.settings, **own, **self._of_set(dataset), **self.given}
        kinds = {name: settings[name] for name in KINDS if name in settings}
        known = Config().replace(**kinds).values()
        # A method's own settings must be known, unless its strategy or space is another one now.
        checked = () if any(name in self.given for name in KINDS) else own
        later = {n: value for n, value in settings.items() if n in known or n in checked}
        return with_defaults(self.preset, {**later, "dataset": dataset, "seed": seed})

    def training(self, method: str, dataset: str, protocol: str, network: pathlib.Path) -> Config:
        """The settings with which a network is trained.

        Args:
          method: whose network it is.
          dataset: on what.
          protocol: its name.
          network: the file of the architecture.

        Raises:
          ValueError: if a setting breaks a rule.
        """
        own = self.protocols[protocol]
        own = self.methods[method].training if own is None else own
        settings = {**self.preset, **self.settings, **own, **self._of_set(dataset), **self.given}
        names = {s.name for s in Config().settings() if s.group in ("data", "recipes")}
        for name in own:
            if name not in names:
                raise ValueError(
                    f"training and protocols have settings of trainings alone; got {name!r}"
                    f"{did_you_mean(name, list(names))}"
                )
        kept = {name: value for name, value in settings.items() if name in names}
        return Config().replace(
            **{"strategy": "one_network", "model_0": str(network), "max_flops": 0},
            **{**kept, "dataset": dataset, "seed": self.seed, "epochs_pretrain": 0},
        )

    def _of_set(self, dataset: str) -> dict[str, Any]:
        return {**OF_DATASETS.get(dataset, {}), **self.datasets[dataset]}


#: What a benchmark decides by itself, and how it is told.
_NOT_OF_RUNS = {
    "seed": "give it beside the settings",
    "dataset": "give datasets",
    "minutes": "give --num_steps, --num_samples or --supernet_epochs",
}
#: What the images of a set are, for all that is made of it.
_OF_SETS = ("label", "image_size", "corrupt_images", "groups")


def _check_settings(plan: Plan) -> None:
    """Raises `ValueError` for a setting that is unknown, of another type, or has no place there."""
    of_methods = {
        f"method {name}": {**method.training, **method.search}
        for name, method in plan.methods.items()
    }
    of_protocols = {f"protocol {name}": each or {} for name, each in plan.protocols.items()}
    of_sets = {f"set {name}": settings for name, settings in plan.datasets.items()}
    groups = {"all runs": plan.settings, "the flags": plan.given}
    defaults = {setting.name: setting.default for setting in all_settings()}
    for whose, settings in (groups | of_methods | of_protocols | of_sets).items():
        for name, value in settings.items():
            if name not in defaults:
                raise ValueError(
                    f"there is no setting {name!r}, which {whose} should have"
                    f"{did_you_mean(name, list(defaults))}"
                )
            if value and name in _NOT_OF_RUNS:
                raise ValueError(
                    f"{name} is no setting of a benchmark's runs; got {value}; {_NOT_OF_RUNS[name]}"
                )
            if name in _OF_SETS and whose in of_methods | of_protocols:
                raise ValueError(
                    f"{name} is a setting of a set, for all that is made of it; got it for "
                    f"{whose}; give it to the set, or to all runs"
                )
            try:
                typed(value, defaults[name])
            except TypeError as error:
                raise ValueError(f"{name} of {whose}: {error}") from None


def name_in_paths(name: str) -> str:
    """A name as part of a path.

    >>> name_in_paths("darts, second order"), name_in_paths("npz:images/cifar10.npz")
    ('darts-second-order', 'npz-images-cifar10.npz')
    """
    return re.sub(r"[^\w.]+", "-", name).strip("-.")


def read_plan(path: pathlib.Path) -> dict[str, Any]:
    """The fields of `Plan` that a JSON file says.

    `methods`, `datasets` and `protocols` are lists of names, or objects of names and settings; a
    method has `search`, `training` and perhaps `like`, the name of a method that it changes.

    Raises:
      ValueError: if it cannot be read, or says something else.
    """
    try:
        plan = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"plan {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"plan {path} is no JSON: {error}") from None
    fields = [field.name for field in dataclasses.fields(Plan)]
    fields = [name for name in fields if name not in ("given", "preset")]
    if not isinstance(plan, dict):
        raise ValueError(f"a plan must be an object of {', '.join(fields)}; got {plan!r:.80}")
    for name, value in plan.items():
        check_word("what a plan says", name, fields)
        kind, what = _KINDS.get(name, (dict | list, "a list of names or an object"))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} of a plan must be {what}; got {value!r:.80}")
    found: dict[str, Callable[[str, Any], Any]] = {
        "methods": _method,
        "datasets": lambda name, settings: _object(name, settings or {}),
        "protocols": lambda name, settings: (
            protocol_named(name) if settings is None else _object(name, settings)
        ),
    }
    if "settings" in plan:
        plan["settings"] = _object("settings", plan["settings"])
    return {
        name: _by_name(value, found[name]) if name in found else value
        for name, value in plan.items()
    }


_KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("seeds", "num_random", "seed"), (int, "a whole number")),
    "against": (str, "a name"),
}


def _by_name(
    value: Collection[str] | Mapping[str, Any], made: Callable[[str, Any], T]
) -> dict[str, T]:
    """Things by their names, of a list of names or of an object."""
    pairs = value.items() if isinstance(value, Mapping) else ((name, None) for name in value)
    return {str(name): made(str(name), settings) for name, settings in pairs}


def protocol_named(name: str) -> Mapping[str, Any] | None:
    """A recipe for training, by its name; None for `OWN`.

    Raises:
      ValueError: if there is none.
    """
    check_word("a protocol", name, (OWN, *RECIPES))
    return None if name == OWN else RECIPES[name]


def _method(name: str, settings: Any) -> Method:
    if settings is None:
        return method_named(name)
    described = dict(_object(name, settings))
    base = method_named(str(described.pop("like"))) if "like" in described else Method({})
    parts = {part: _object(name, described.pop(part, {})) for part in ("search", "training")}
    for left in described:
        raise ValueError(f"method {name} may have search, training and like; got {left!r:.80}")
    return Method({**base.search, **parts["search"]}, {**base.training, **parts["training"]})


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} of a plan must be an object of settings; got {value!r:.80}")
    return {key: tuple(x) if isinstance(x, list) else x for key, x in value.items()}
