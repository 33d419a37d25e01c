"""Everything that decides a run, as one frozen dataclass; the defaults are the paper's."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, cast

import jax

from nash_jax.data import CORRUPT_IMAGES
from nash_jax.estimation import INHERIT, Recipe, Weights
from nash_jax.morphisms import KERNEL_SIZES, WIDENING_FACTORS
from nash_jax.record import Settings
from nash_jax.record.files import DamagedError
from nash_jax.reporting import RunView, view
from nash_jax.search import (
    STRATEGIES,
    HillClimbingSettings,
    OneNetworkSettings,
    RandomSearchSettings,
)
from nash_jax.spaces import check_sizes
from nash_jax.training import TrainingSettings

#: How often the FLOPs of model_0 a network may have, if nothing is said: on CIFAR's images those of
#: the paper's model_0 become 1 GFLOP.
GROWTH = 12.5


def _setting(default: Any, help: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": help})


#: The groups of settings, of flags and of `config.json`; what is in none of them is of 'recipes'.
GROUPS = {
    "data": (
        "dataset",
        "label",
        "image_size",
        "corrupt_images",
        "max_train_examples",
        "validation_fraction",
    ),
    "space": ("model_0", "widths", "kernel_sizes", "widening_factors"),
    "strategy": (
        "strategy",
        "num_samples",
        "num_edits",
        "num_steps",
        "num_neighbours",
        "num_morphisms",
    ),
    "bounds": ("max_flops", "max_memory"),
    "run": ("seed", "threads_per_child"),
}


def group_of(name: str) -> str:
    """The group of a setting."""
    return next((group for group, names in GROUPS.items() if name in names), "recipes")


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run of NASH. Each field is a flag of `experiments.nash`."""

    dataset: str = _setting(
        "digits",
        "digits (embedded), tfds:NAME[/CONFIG][:VERSION], folder:DIR, cifar:DIR or npz:FILE",
    )
    label: str = _setting("", "which label of a TFDS set that has several, such as coarse_label")
    image_size: int = _setting(
        0, "edge to which the images of a folder or a TFDS set are resized; 0: as they are"
    )
    corrupt_images: str = _setting("stop", "what to do at an image that cannot be read: stop, skip")
    seed: int = _setting(0, "decides every random choice")
    max_train_examples: int = _setting(0, "use a stratified subset of the training images; 0: all")
    validation_fraction: float = _setting(0.2, "share of the training images to validate on")
    model_0: str = _setting(
        "chain",
        "the network to start from: chain, resnet-20, wrn-16-4 or others of these kinds, FILE.json "
        "(an architecture) or FILE.safetensors (with its weights)",
    )
    widths: tuple[int, ...] = _setting((64, 128, 256), "channels of the chain's convolutions")
    strategy: str = _setting("hill_climbing", f"what decides: {', '.join(STRATEGIES)}")
    num_samples: int = _setting(
        RandomSearchSettings.num_samples, "networks that random_search draws"
    )
    num_edits: int = _setting(
        RandomSearchSettings.num_edits, "edits of each network that random_search draws"
    )
    num_steps: int = _setting(HillClimbingSettings.num_steps, "hill climbing steps (n_steps)")
    num_neighbours: int = _setting(
        HillClimbingSettings.num_neighbours,
        "children per step, the current best among them (n_neigh); 1: random networks",
    )
    num_morphisms: int = _setting(
        HillClimbingSettings.num_morphisms, "network morphisms per child (n_NM)"
    )
    kernel_sizes: tuple[int, ...] = _setting(KERNEL_SIZES, "kernel sizes to deepen with")
    widening_factors: tuple[int, ...] = _setting(WIDENING_FACTORS, "factors to widen by")
    inherit: str = _setting(
        "morphism",
        "a child's weights: by morphism; by_name, new and changed layers drawn anew; or nothing, "
        "all drawn anew",
    )
    max_flops: int = _setting(
        -1,
        "most FLOPs per image of a network; -1: 12.5 times those of model_0; 0: no limit",
    )
    max_memory: float = _setting(
        0.0, "most memory for training a child, in GiB; 0: what the device has (CPU: no limit)"
    )
    threads_per_child: int = _setting(1, "XLA's threads for each child, on CPU")
    epochs_pretrain: int = _setting(20, "epochs of model_0 before the search")
    epochs_neighbours: int = _setting(17, "epochs of every child (epoch_neigh)")
    epochs_final: int = _setting(
        100, "epochs of the best network on training and validation set (epoch_final)"
    )
    lr_start: float = _setting(
        TrainingSettings.lr_start, "learning rate at the start of every training (lambda_start)"
    )
    lr_end: float = _setting(
        TrainingSettings.lr_end, "learning rate at the end of every training (lambda_end)"
    )
    constant_lr: float = _setting(
        0.0, "learning rate of the children, kept constant; 0: annealed as in every training"
    )
    momentum: float = _setting(TrainingSettings.momentum, "Nesterov momentum")
    weight_decay: float = _setting(TrainingSettings.weight_decay, "L2 factor of the kernels")
    batch_size: int = _setting(TrainingSettings.batch_size, "images per update")
    crop_padding: int = _setting(
        TrainingSettings.crop_padding, "pixels of padding before random crops; 0: no crops"
    )
    flip: bool = _setting(TrainingSettings.flip, "mirror half of the images left to right")
    cutout: int = _setting(
        TrainingSettings.cutout, "edge of the square that gets the mean colour, in pixels; 0: none"
    )
    label_smoothing: float = _setting(
        TrainingSettings.label_smoothing, "share of the target that is spread over all classes"
    )
    clip_norm: float = _setting(
        TrainingSettings.clip_norm, "largest norm of all gradients together; 0: no limit"
    )
    flip_test: bool = _setting(
        TrainingSettings.flip_test, "evaluate images and their mirror images, if flip is on"
    )
    precision: str = _setting(
        TrainingSettings.precision,
        "what to compute with: float32, tf32, bfloat16, or auto (float32 on CPU, else bfloat16); "
        "parameters stay in float32",
    )

    def __post_init__(self) -> None:
        if self.precision == "auto":  # what it means here is what is recorded
            on_cpu = jax.default_backend() == "cpu"
            object.__setattr__(self, "precision", "float32" if on_cpu else "bfloat16")
        for name, least in (
            *(("seed", 0), ("max_train_examples", 0), ("max_flops", -1)),
            *(("max_memory", 0), ("threads_per_child", 1), ("image_size", 0), ("constant_lr", 0)),
            *(("epochs_pretrain", 0), ("epochs_neighbours", 1), ("epochs_final", 0)),
        ):
            value = getattr(self, name)
            if not least <= value < math.inf:
                finite = " and finite" if isinstance(value, float) else ""
                raise ValueError(f"{name} must be >= {least}{finite}; got {value}")
        for name, words in (
            ("corrupt_images", CORRUPT_IMAGES),
            ("inherit", INHERIT),
            ("strategy", tuple(STRATEGIES)),
        ):
            if (value := getattr(self, name)) not in words:
                near = get_close_matches(str(value), words, 1)
                meant = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"{name} must be one of {', '.join(words)}; got {value!r}{meant}")
        if self.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32; got {self.seed}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction must be between 0 and 1; got {self.validation_fraction}"
            )
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be whole numbers >= 1; got {list(self.widths)}")
        # These check their own fields.
        _ = self.training, self.training_of_children, self.strategy_settings
        check_sizes(self.kernel_sizes, self.widening_factors)

    @property
    def training(self) -> TrainingSettings:
        return _part(TrainingSettings, self)

    @property
    def training_of_children(self) -> TrainingSettings:
        """Annealed like every training, or at a constant rate, which is the paper's 'no SGDR'."""
        rate = self.constant_lr
        return (
            dataclasses.replace(self.training, lr_start=rate, lr_end=rate)
            if rate
            else self.training
        )

    @property
    def hill_climbing(self) -> HillClimbingSettings:
        return _part(HillClimbingSettings, self)

    @property
    def strategy_settings(self) -> Any:
        """The settings of the strategy."""
        return _part(STRATEGY_SETTINGS[self.strategy], self)

    @property
    def recipes(self) -> dict[str, Recipe]:
        """How proposals are trained, by the names that strategies know."""
        brief = Recipe(
            self.epochs_neighbours, self.training_of_children, cast(Weights, self.inherit)
        )
        alone = Recipe(self.epochs_pretrain, self.training, "given", alone=True)
        return {
            "pretrain": alone,
            "brief": brief,
            "scratch": dataclasses.replace(brief, weights="nothing"),
            "final": dataclasses.replace(alone, epochs=self.epochs_final, judged_on="test"),
        }


#: The settings of every strategy.
STRATEGY_SETTINGS: dict[str, Any] = {
    "hill_climbing": HillClimbingSettings,
    "one_network": OneNetworkSettings,
    "random_search": RandomSearchSettings,
}


def settings_of(config: Config) -> Settings:
    """The settings as JSON gives them back."""
    given, defaults = (
        {name: list(x) if isinstance(x, tuple) else x for name, x in values.items()}
        for values in (
            dataclasses.asdict(config),
            {field.name: field.default for field in dataclasses.fields(Config)},
        )
    )
    groups = {name: group_of(name) for name in given}
    return Settings(given, defaults, groups, later=("strategy", "num_samples", "num_edits"))


def config_of(settings: Mapping[str, Any]) -> Config:
    """The config of what `config.json` says; a setting that it lacks has its default.

    Raises:
      DamagedError: if a setting is of another type, or breaks a rule.
    """
    fields = dataclasses.fields(Config)
    try:
        given = {f.name: _typed(settings.get(f.name, f.default), f.default) for f in fields}
        return Config(**given)
    except (TypeError, ValueError) as error:
        raise DamagedError(f"config.json is damaged: {error}") from None


def read_run(workdir: pathlib.Path) -> RunView:
    """Read a run at any time: see `reporting.view.read_run`."""
    return view.read_run(workdir, config_of)


def _typed(value: Any, default: Any) -> Any:
    """A setting as JSON has it, as its default's type."""
    if isinstance(default, tuple):
        return tuple(_typed(item, 0) for item in value)
    kinds = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        raise TypeError(f"a setting must be {type(default).__name__}; got {value!r:.80}")
    return value


def _part(kind: Any, config: Config) -> Any:
    return kind(**{field.name: getattr(config, field.name) for field in dataclasses.fields(kind)})


#: How to train; each replaces the defaults that are named. How one trains must not be mistaken for
#: how one searches: results of the two are never put into one table.
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "modern": {"label_smoothing": 0.1, "clip_norm": 5.0, "flip_test": True, "cutout": 8},
}

#: Settings by size; each replaces the defaults that are named.
PRESETS: dict[str, dict[str, Any]] = {
    # The paper names no limit, but drawn as it says, 25 edits give a network of 300 million
    # parameters in the median; its random networks have 4.4 million. Below 1 GFLOP they have 5.9.
    # In float32 its table 1 would take a GPU several times as long.
    "paper": {"max_flops": 1_000_000_000, "precision": "auto"},
    # The embedded 8x8 digits in about a minute. Mirrored digits are other signs, so no flips.
    "digits": {
        "widths": (16, 32, 64),
        "num_steps": 3,
        "num_neighbours": 5,
        "num_morphisms": 3,
        "max_flops": 3_000_000,
        "epochs_pretrain": 10,
        "epochs_neighbours": 6,
        "epochs_final": 30,
        "batch_size": 64,
        "crop_padding": 1,
        "flip": False,
    },
    # Images of about 32x32, like CIFAR-10, on a laptop's CPU.
    "laptop": {
        "max_train_examples": 10_000,
        "widths": (16, 32, 64),
        "num_steps": 3,
        "num_neighbours": 4,
        "num_morphisms": 3,
        "max_flops": 20_000_000,
        "epochs_pretrain": 5,
        "epochs_neighbours": 4,
        "epochs_final": 10,
        "batch_size": 64,
    },
}
# As laptop, in less than half the time: for tables of many runs on a CPU.
PRESETS["small"] = PRESETS["laptop"] | {
    "max_flops": 16_000_000,
    "epochs_pretrain": 4,
    "epochs_neighbours": 2,
    "epochs_final": 6,
}
