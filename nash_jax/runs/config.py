"""Everything that decides a run, as one frozen dataclass; the defaults are the paper's."""

from __future__ import annotations

import dataclasses
import inspect
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from nash_jax.architecture import COSTS, Architecture, count_flops
from nash_jax.checks import check_least, check_word, did_you_mean
from nash_jax.data import CORRUPT_IMAGES
from nash_jax.estimation import ESTIMATORS, INHERIT, METRICS, Recipe, Weights
from nash_jax.record import Settings
from nash_jax.record.files import DamagedError
from nash_jax.record.lines import Build
from nash_jax.reporting import RunView, view
from nash_jax.runs.spaces import SPACE_SETTINGS, MorphsSettings
from nash_jax.search import STRATEGY_SETTINGS, HillClimbingSettings
from nash_jax.spaces import Space
from nash_jax.training import TrainingSettings

#: How many times the FLOPs of model_0 a network may have by default: for the paper's model_0 on
#: CIFAR's images, that is 1 GFLOP.
GROWTH = 12.5
#: In which order a strategy is told of trials.
TRIAL_ORDERS = ("proposal", "arrival")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Which images a run uses.

    Attributes:
      dataset: digits (embedded), tfds:NAME[/CONFIG][:VERSION], folder:DIR, cifar:DIR or npz:FILE.
      label: which label of a TFDS set that has several, such as coarse_label.
      image_size: edge to which all images are resized; 0: as they are.
      corrupt_images: what to do if an image cannot be read: stop, skip.
      groups: keeps images of a folder together in every split: those with the same name of the
        first folder below the class (folder); or those for which a regular expression finds the
        same in CLASS/.../FILE, or the same in its parentheses.
      max_train_examples: use a stratified subset of the training images; 0: all.
      validation_fraction: share of the training images to validate on.
    """

    dataset: str = "digits"
    label: str = ""
    image_size: int = 0
    corrupt_images: str = "stop"
    groups: str = ""
    max_train_examples: int = 0
    validation_fraction: float = 0.2

    def __post_init__(self) -> None:
        check_least(self, max_train_examples=0, image_size=0)
        check_word("corrupt_images", self.corrupt_images, CORRUPT_IMAGES)
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction must be between 0 and 1; got {self.validation_fraction}"
            )


@dataclasses.dataclass(frozen=True)
class RecipeSettings:
    """How networks are trained: model_0, the children of a search, and the network that it finds.

    Attributes:
      epochs_pretrain: epochs of model_0 before the search.
      epochs_neighbours: epochs of every child (epoch_neigh).
      epochs_final: epochs of the best network on training and validation set (epoch_final).
      estimator: how good a child is found to be: by training it, or by an estimator of your own in
        `estimation.ESTIMATORS`.
      inherit: how a child gets its parent's weights: by morphism; by_name: new and changed layers
        are drawn anew; nothing: all layers are drawn anew.
      constant_lr: learning rate of the children, kept constant; 0: annealed as in every training.
      smaller_search: train and judge model_0 and children on images of about 5/8 of their edges, in
        the space of morphs; the network must end in a global mean. Their accuracies are of such
        images, and their weights fit such images until the final training.
      progressive_resizing: share of the final training, at its beginning, on images of about 5/8 of
        their edges, in [0, 1); the network must end in a global mean. 0: none, as the paper.
      training: what all trainings share.
    """

    epochs_pretrain: int = 20
    epochs_neighbours: int = 17
    epochs_final: int = 100
    estimator: str = "training"
    inherit: str = "morphism"
    constant_lr: float = 0.0
    smaller_search: bool = False
    progressive_resizing: float = 0.0
    training: TrainingSettings = TrainingSettings()

    def __post_init__(self) -> None:
        check_least(self, epochs_pretrain=0, epochs_neighbours=1, epochs_final=0, constant_lr=0)
        check_word("inherit", self.inherit, INHERIT)
        check_word("estimator", self.estimator, tuple(ESTIMATORS))
        _ = self.of_children  # checks its own fields
        if not 0 <= self.progressive_resizing < 1:
            raise ValueError(
                f"progressive_resizing must be in [0, 1); got {self.progressive_resizing}"
            )

    @property
    def of_children(self) -> TrainingSettings:
        """Annealed like every training, or at a constant rate, which is the paper's 'no SGDR'."""
        if not (rate := self.constant_lr):
            return self.training
        return dataclasses.replace(self.training, lr_start=rate, lr_end=rate, warmup=0.0)

    def by_name(self) -> dict[str, Recipe]:
        """How proposals are trained, by the names that strategies know."""
        brief = Recipe(
            self.epochs_neighbours,
            self.of_children,
            cast(Weights, self.inherit),
            estimator=self.estimator,
            smaller=self.smaller_search,
        )
        alone = Recipe(
            self.epochs_pretrain, self.training, "given", alone=True, smaller=self.smaller_search
        )
        return {
            "pretrain": alone,
            "brief": brief,
            "scratch": dataclasses.replace(brief, weights="nothing"),
            "further": dataclasses.replace(brief, weights="given"),
            "baseline": alone,
            "final": dataclasses.replace(
                alone,
                epochs=self.epochs_final,
                judged_on="test",
                progressive_resizing=self.progressive_resizing,
                smaller=False,
            ),
        }


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What no network of a search may exceed.

    Attributes:
      max_flops: most FLOPs per image of a network; -1: 12.5 times those of model_0 in the space of
        morphs, which has no other end, and no limit in others; 0: no limit.
      max_params: most parameters of a network; 0: no limit.
      max_bytes: most bytes of a network's weights, in float32; 0: no limit.
      max_activation_bytes: most bytes that one image's tensors take at a time in inference; 0: no
        limit.
      max_costs: further bounds, such as depth=12, with commas between them; the names are those of
        `architecture.COSTS`. Of two for one cost the nearer counts.
      max_memory: most memory for training a child, in GiB; 0: what the device has (CPU: no limit).
    """

    max_flops: int = -1
    max_params: int = 0
    max_bytes: int = 0
    max_activation_bytes: int = 0
    max_costs: str = ""
    max_memory: float = 0.0

    def __post_init__(self) -> None:
        zero = dict.fromkeys(("max_params", "max_bytes", "max_activation_bytes", "max_memory"), 0)
        check_least(self, max_flops=-1, **zero)
        _ = self._further

    def limits(self, model_0: Architecture) -> dict[str, float]:
        """What each cost of `architecture.COSTS` may be, of those that have a bound."""
        found: dict[str, float] = {"flops": self.max_flops, "params": self.max_params}
        found |= {"bytes": self.max_bytes, "activation_bytes": self.max_activation_bytes}
        if self.max_flops < 0:
            found["flops"] = GROWTH * count_flops(model_0)
        found = {name: most for name, most in found.items() if most}
        for name, most in self._further.items():  # the nearer one counts
            found[name] = min(most, found.get(name, most))
        return found

    @property
    def _further(self) -> dict[str, float]:
        """`max_costs` by name."""
        found: dict[str, float] = {}
        for given in filter(None, self.max_costs.split(",")):
            name, _, most = (part.strip() for part in given.partition("="))
            check_word("the name in max_costs", name, tuple(COSTS))
            if not re.fullmatch(r"\d+([.]\d+)?(e\d+)?", most):
                raise ValueError(f"max_costs must be NAME=NUMBER; got {given!r}; as in {name}=12")
            found[name] = min(float(most), found.get(name, float(most)))
        return found


def flag_of(cost: str) -> str:
    """The setting that bounds a cost, by the cost's name."""
    return f"max_{cost}" if f"max_{cost}" in Bounds.__dataclass_fields__ else f"max_costs {cost}"


#: The groups that have several kinds; the setting with a group's name chooses the kind.
KINDS: dict[str, Mapping[str, type[Any]]] = {"space": SPACE_SETTINGS, "strategy": STRATEGY_SETTINGS}


class Setting(NamedTuple):
    """One setting: a flag, and an entry of `config.json`.

    Attributes:
      name: no other setting has it.
      group: 'data', 'space', 'strategy', 'recipes', 'bounds' or 'run'.
      value: in a config.
      default: its value if none is given.
      help: what it decides.
    """

    name: str
    group: str
    value: Any
    default: Any
    help: str


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run.

    Attributes:
      data: which images.
      space: what is searched.
      strategy: what decides.
      recipes: how networks are trained.
      bounds: what they may not exceed.
      metric: what is climbed, on validation images: accuracy, balanced_accuracy or loss.
      minutes: ends the run in about so much time, of which the search has 60% at most, and the
        final training the rest; 0: no limit. Without a preset, `nash search` plans the sizes by it;
        +10 gives the run in workdir ten minutes more. The result depends on the machine then.
      trial_order: in which order a strategy is told of trials that are out: of their proposals; or
        of their arrival, so that a slow one holds up no other. The result depends on the workers
        then; the record has what arrived when.
      seed: decides every random choice.
      threads_per_child: XLA's threads for each child, on CPU.

    >>> config = Config().replace(num_steps=2, lr_start=0.1)
    >>> config.strategy.num_steps, config.recipes.training.lr_start
    (2, 0.1)
    """

    data: DataSettings = DataSettings()
    space: Any = MorphsSettings()
    strategy: Any = HillClimbingSettings()
    recipes: RecipeSettings = RecipeSettings()
    bounds: Bounds = Bounds()
    metric: str = "accuracy"
    minutes: float = 0.0
    trial_order: str = "proposal"
    seed: int = 0
    threads_per_child: int = 1

    def __post_init__(self) -> None:
        check_least(self, seed=0, threads_per_child=1, minutes=0)
        check_word("metric", self.metric, METRICS)
        check_word("trial_order", self.trial_order, TRIAL_ORDERS)
        if self.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32; got {self.seed}")

    def limits(self, model_0: Architecture) -> dict[str, float]:
        """What each cost of `architecture.COSTS` may be, of those that have a bound."""
        limits = self.bounds.limits(model_0)
        if self.bounds.max_flops < 0 and not isinstance(self.space, MorphsSettings):
            limits.pop("flops", None)
        return limits

    def recipes_by_name(self) -> dict[str, Recipe]:
        """How proposals are trained, by the names that the strategy knows."""
        recipes = self.recipes.by_name()
        own = getattr(self.strategy, "recipes", None)
        return recipes if own is None else {**recipes, **own(recipes)}

    def replace(self, **settings: Any) -> Config:
        """This config with some settings replaced, each by its own name.

        If the strategy or the space is replaced, settings of the new one start from their defaults.

        Args:
          **settings: values by the names that flags have; `strategy` and `space` are names too.

        Raises:
          ValueError: if there is no such setting, if it belongs to another strategy or space, or if
            a value breaks a rule.
        """
        kinds = {group: settings.pop(group) for group in KINDS if group in settings}
        config = self
        for group, name in kinds.items():
            check_word(group, name, tuple(KINDS[group]))
            if name != _kind(group, getattr(config, group)):
                config = dataclasses.replace(config, **{group: KINDS[group][name]()})
        config = _replaced(config, settings)
        for name in settings:  # those that are left
            raise ValueError(_unknown(name, config))
        return config

    def settings(self) -> list[Setting]:
        """Every setting."""
        helps, found = _helps(Config), []
        for field in dataclasses.fields(self):
            group, value = field.name, getattr(self, field.name)
            if group in KINDS:
                kind, default = _kind(group, value), _kind(group, field.default)
                what = f"{helps[group]}: {', '.join(KINDS[group])}"
                found.append(Setting(group, group, kind, default, what))
            if dataclasses.is_dataclass(value):
                found += _settings_in(group, value)
            else:
                found.append(Setting(group, "run", value, field.default, helps[group]))
        return found

    def values(self) -> dict[str, Any]:
        """Every setting's value, by its name."""
        return {setting.name: setting.value for setting in self.settings()}


def all_settings() -> list[Setting]:
    """The settings of all strategies and spaces, with their defaults; each name once.

    Where strategies have different defaults, the value is None, and the help says them.
    """
    found = {setting.name: setting for setting in Config().settings()}
    for group, kinds in KINDS.items():
        by_name: dict[str, dict[str, Setting]] = {}
        for kind, settings in kinds.items():
            for setting in _settings_in(group, settings()):
                by_name.setdefault(setting.name, {})[kind] = setting
        for name, several in by_name.items():
            found[name] = min(several.values(), key=lambda setting: len(setting.help))
            if len({setting.default for setting in several.values()}) > 1:
                defaults = ", ".join(f"{kind} {each.default}" for kind, each in several.items())
                text = f"{found[name].help}; by default: {defaults}"
                found[name] = found[name]._replace(value=None, help=text)
    order = [*(field.name for field in dataclasses.fields(Config)), "run"]
    return sorted(found.values(), key=lambda setting: order.index(setting.group))


def settings_of(config: Config) -> Settings:
    """The settings as JSON gives them back."""
    settings = config.settings()
    return Settings(
        {setting.name: _as_json(setting.value) for setting in settings},
        {setting.name: _as_json(setting.default) for setting in settings},
        {setting.name: setting.group for setting in settings},
        later=(
            *(*KINDS, "num_edits", "max_params", "max_bytes", "max_activation_bytes", "metric"),
            *("groups", "max_costs", "estimator", "minutes", "crossover", "crossover_kind"),
            *("drop_path", "drop_path_by_depth", "auxiliary_weight", "nesterov", "auto_augment"),
            *("trial_order", "warmup", "progressive_resizing", "smaller_search"),
        ),
    )


def config_of(settings: Mapping[str, Any]) -> Config:
    """The config that `config.json` describes; a setting that is missing there has its default.

    Raises:
      DamagedError: if a setting is of another type, or breaks a rule.
      ValueError: if its strategy, space or estimator is none that is known here.
    """
    for group, known in (*KINDS.items(), ("estimator", ESTIMATORS)):
        name = settings.get(group)
        if isinstance(name, str) and name not in known:
            raise ValueError(
                f"the run is of {group} {name!r:.80}, which this program does not know; use the "
                "program that made it"
            )
    try:
        kinds = {group: typed(settings[group], "") for group in KINDS if group in settings}
        config = Config().replace(**kinds)
        given = {
            setting.name: typed(settings[setting.name], setting.default)
            for setting in config.settings()
            if setting.name in settings
        }
        return config.replace(**given)
    except (TypeError, ValueError) as error:
        raise DamagedError(f"config.json is damaged: {error}") from None


def read_run(workdir: pathlib.Path) -> RunView:
    """Read a run at any time: see `reporting.view.read_run`."""
    return view.read_run(workdir, config_of, build_of)


def build_of(config: Config, first: Architecture) -> Build:
    """What builds the networks of a config's space.

    Args:
      config: names the space.
      first: a network of it, of the run's data.
    """
    space: Space = config.space.space(first, {}, config.strategy)
    return space.build


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def typed(value: Any, default: Any) -> Any:
    """A setting's value from JSON, converted to the type of its default.

    Raises:
      TypeError: if it is of another type.
    """
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(typed(item, 0) for item in value)
    kinds = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        raise TypeError(f"a setting must be {type(default).__name__}; got {value!r:.80}")
    return value


def _settings_in(group: str, part: Any) -> list[Setting]:
    """The settings of a group, or of a part of it."""
    helps, found = _helps(type(part)), []
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            found += _settings_in(group, value)
        else:
            found.append(Setting(field.name, group, value, field.default, helps[field.name]))
    return found


def _helps(kind: type[Any]) -> dict[str, str]:
    """The meaning of each field of a dataclass, from 'Attributes' in its and its bases' texts."""
    text = "\n".join(inspect.cleandoc(each.__doc__ or "") for each in reversed(kind.__mro__))
    entries = re.findall(r"^  (\w+): (.+(?:\n {4,}.+)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()).rstrip(".") for name, words in entries}


def _kind(group: str, part: Any) -> str:
    """Which kind of space or strategy some settings are of."""
    return next(name for name, kind in KINDS[group].items() if type(part) is kind)


def _replaced(part: Any, left: dict[str, Any]) -> Any:
    """The dataclass with new values for its fields in `left`, from which these are removed."""
    new = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            new[field.name] = _replaced(value, left)
        elif field.name in left:
            new[field.name] = left.pop(field.name)
    return dataclasses.replace(part, **new)


def _unknown(name: str, config: Config) -> str:
    """Why a config has no setting of a name."""
    for group, kinds in KINDS.items():
        others = [other for other, kind in kinds.items() if name in _names(kind)]
        if others:
            return (
                f"{name} is a setting of {group} {', '.join(others)}; got it with "
                f"{_kind(group, getattr(config, group))}; leave it out, or give "
                f"--{group}={others[0]}"
            )
    return f"there is no setting {name!r}{did_you_mean(name, list(config.values()))}"


def _names(kind: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}
