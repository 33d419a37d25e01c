"""How well proxies order what full trainings order, against their cost.

The full training and every proxy are each an ordinary run of random search in a folder of its own,
of the same genotypes. They are compared by accuracy on validation images; that a run ends with a
test of its best network plays no part.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nash_jax.architecture import COSTS, count_flops
from nash_jax.data import Dataset
from nash_jax.estimation import Table
from nash_jax.evaluation import FULL, Cost, Ranking, ranking
from nash_jax.runs.config import Config
from nash_jax.runs.problem import dataset_of, prepare
from nash_jax.runs.proxies import OF_SPACE, folder_of, full_training, proxy_of
from nash_jax.runs.result import Result
from nash_jax.runs.run import run_search
from nash_jax.runs.tables import space_for
from nash_jax.search import Trial

#: Costs of a network that are compared with proxies: they need no training at all.
UNTRAINED = ("params", "flops")

Perform = Callable[[Config, pathlib.Path, Dataset], Result]


def rank(
    config: Config,
    proxies: Sequence[str],
    workdir: pathlib.Path,
    perform: Perform = lambda config, folder, dataset: run_search(config, dataset, workdir=folder),
    load: Callable[[Config], Dataset] = dataset_of,
) -> Ranking:
    """Train random genotypes fully and by each proxy.

    What was trained before in the same folder is not trained again.

    Args:
      config: of the full training: random search, `epochs_final` epochs, `num_samples` genotypes.
      proxies: each like `epochs=3`, `channels=8,epochs=3` or `estimator=NAME`.
      workdir: has a folder for the full training and one for each proxy, each an ordinary run.
      perform: makes a run, or goes on with it.
      load: the data of a config.

    Raises:
      ValueError: for fewer than three genotypes, or a proxy that is unknown, or has not less than
        the full training; before anything is trained.
    """
    full = full_training(config)
    dataset = load(full)
    proxies = [text.replace(" ", "") for text in proxies]
    configs = {FULL: full} | {text: proxy_of(full, text, dataset) for text in proxies}
    datasets, images = {full.data.image_size: dataset}, dict[str, int]()
    most = math.inf
    for name, each in configs.items():  # all that may be wrong is said before anything is trained
        if each.data.image_size not in datasets:
            datasets[each.data.image_size] = load(each)
        problem = prepare(each, datasets[each.data.image_size])
        if problem.limits and any(part.partition("=")[0] in OF_SPACE for part in name.split(",")):
            raise ValueError(
                f"proxy {name} must be of the same genotypes, and bounds draw others of smaller "
                f"networks; got bounds of {', '.join(problem.limits)}; leave them out"
            )
        images[name] = len(problem.train)
        flops = each.recipes.epochs_neighbours * images[name] * count_flops(problem.model_0)
        if flops >= most and each.recipes.estimator == full.recipes.estimator:
            raise ValueError(
                f"proxy {name} must be cheaper than the full training; in space "
                f"{full.values()['space']} it is not; leave it out"
            )
        most = flops if name == FULL else most
    trials = {
        name: _samples(perform(each, workdir / folder_of(name), datasets[each.data.image_size]))
        for name, each in configs.items()
    }
    costs = {name: _cost(each, images[name]) for name, each in trials.items()}
    return _ranking_of(full, trials, costs)


def _samples(result: Result) -> list[Trial]:
    return [trial for trial in result.history if trial.recipe == "scratch"]


def _ranking_of(
    full: Config, trials: Mapping[str, Sequence[Trial]], costs: dict[str, Cost]
) -> Ranking:
    """The ranking that runs give."""
    of_full = trials[FULL]
    known = hasattr(full.space, "made")
    codes = [space_for(full).code(trial.genotype) if known else trial.name for trial in of_full]
    values = {
        name: np.array([100 * trial.estimate.accuracy for trial in each])
        for name, each in trials.items()
    }
    for cost in UNTRAINED:
        values[cost] = np.array([float(COSTS[cost](trial.spec)) for trial in of_full])
        costs[cost] = Cost()
    epochs = full.recipes.epochs_neighbours
    return ranking(f"validation accuracy after {epochs} epochs", codes, values, costs)


def _cost(trials: Sequence[Trial], images: int) -> Cost:
    """What trainings on so many images took; gradients take twice the FLOPs of the network."""
    seconds = [trial.estimate.seconds for trial in trials]
    return Cost(
        sum(each.train + each.evaluate for each in seconds),
        sum(3.0 * t.flops * images * len(t.estimate.train_losses) for t in trials),
        sum(each.compile for each in seconds),
        sum(trial.failed for trial in trials),
    )


def rank_in_table(
    config: Config, path: str, data: str = "", proxies: Sequence[str] = (), samples: int = 0
) -> Ranking:
    """Compare trainings of a table with its test values after the longest training.

    Args:
      config: its space is the table's; its networks have the parameters and FLOPs.
      path, data: as in `Table.load`.
      proxies: `epochs=NUMBER`, of the numbers that the table has; by default all.
      samples: so many rows, drawn at random by the config's seed; 0: all.

    Raises:
      ValueError: if the table is none of this space, for an unknown proxy, or too few rows.
    """
    space = space_for(config)
    lengths = Table.lengths(path, data)
    asked = []
    for text in proxies:
        name, _, epochs = text.partition("=")
        if name != "epochs" or epochs not in map(str, lengths):
            raise ValueError(
                f"proxy must be one of {', '.join(f'epochs={n}' for n in lengths)} in this table; "
                f"got {text}"
            )
        asked.append(int(epochs))
    tables = {n: Table.load(path, data, n) for n in asked or lengths}
    longest = Table.load(path, data, max(lengths))
    columns = [longest.test, *(table.validation for table in tables.values())]
    there = np.flatnonzero(np.isfinite(columns).all(axis=0))
    if samples:
        rng = np.random.default_rng(config.seed)
        there = np.sort(rng.permutation(there)[:samples])
    if len(there) < 3:
        raise ValueError(f"an order needs 3 rows of the table at least; got {len(there)}")
    codes = np.array(list(longest.rows))[there].tolist()
    values, costs = {FULL: longest.test[there]}, {FULL: Cost(longest.seconds[there].sum())}
    for length, table in tables.items():
        name = f"epochs={length}"
        values[name], costs[name] = table.validation[there], Cost(table.seconds[there].sum())
    specs = (space.build(space.parse(code), "final") for code in codes)
    untrained = np.array([[float(COSTS[cost](spec)) for cost in UNTRAINED] for spec in specs])
    for cost, column in zip(UNTRAINED, untrained.T):
        values[cost], costs[cost] = column, Cost()
    truth = f"test accuracy after the longest training in {longest.name}"
    return ranking(truth, codes, values, costs)
