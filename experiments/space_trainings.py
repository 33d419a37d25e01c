"""Trainings of a study of a search space: random genotypes, several seeds of each in one program.

Each training is a file of the study's folder, and is never made again.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.study import Study
from nash_jax.record.files import read_json, write_json, writing
from nash_jax.record.provenance import provenance
from nash_jax.runs import Problem, prepare, space_of
from nash_jax.training import learning_curves

FOLDER = "trainings"


def trained_columns(
    study: Study, genotypes: int, seeds: int, depths: Sequence[int], others: Sequence[str]
) -> dict[str, np.ndarray]:
    """Train what is not there yet, and give the study's columns: see `space_columns`.

    Args:
      study: its config says which space, which images and how long; the seed decides the genotypes.
      genotypes: how many of each space, at least 3.
      seeds: of each genotype of the study's own space; other trainings have one.
      depths: other numbers of cells that the same genotypes are trained with.
      others: other spaces.

    Raises:
      ValueError: if there is nothing to order, or the space has no genotypes or no cells.
    """
    name, values = study.config.values()["space"], study.config.values()
    if genotypes < 3 or seeds < 1:
        raise ValueError(
            f"a study needs 3 genotypes and a seed at least; got {genotypes} and {seeds}"
        )
    for space in (name, *others):
        of_space(study.config, space)
    if depths and "cells" not in values:
        raise ValueError(f"depths are for a space with cells; {name} has none; leave them out")
    problem = prepare(study.config, study.dataset)
    own: int = values.get("cells", 0)
    depths = sorted({*depths} - {own})

    def trained(space: str, cells: int, seeds: int) -> np.ndarray:
        """`[genotypes, seeds, epochs]`."""
        curves = [one(study, problem, space, cells, number, seeds) for number in range(genotypes)]
        return 100 * np.array(curves)

    whole = trained(name, own, seeds)
    columns = {"curves": whole[:, 0]}
    if seeds > 1:
        columns["seeds"] = whole[:, :, -1]
    by_depth = {cells: trained(name, cells, 1)[:, 0] for cells in depths}
    if depths:
        by_depth[own] = whole[:, 0]
        columns |= {f"cells{cells}": by_depth[cells] for cells in sorted(by_depth)}
        for cells in depths:
            pair = sorted((cells, own))
            ends = [by_depth[each][:, -1] for each in pair]
            columns[f"cells{pair[0]}_{pair[1]}"] = np.stack(ends, axis=1)
    for space in others:
        columns[f"curves_{space}"] = trained(space, own, 1)[:, 0]
    return columns


def of_space(config: Any, space: str, cells: int = 0) -> Any:
    """A config of another space, or another number of cells, with the sizes that both have.

    0 cells: as many as before.

    Raises:
      ValueError: if it is no space of genotypes.
    """
    settings = {each.name: each.value for each in config.settings() if each.group == "space"}
    changed = config.replace(space=space)
    if not hasattr(changed.space, "made"):
        raise ValueError(
            f"space must be one of genotypes, such as nb201 or darts; got {space}; give --space"
        )
    known = changed.values().keys() - {"space", "first"}
    both = {name: value for name, value in settings.items() if name in known}
    if cells:
        both["cells"] = cells
    return changed.replace(**both)


def one(
    study: Study, problem: Problem, space: str, cells: int, number: int, seeds: int
) -> list[list[float]]:
    """Accuracies on the validation images, `[seeds][epochs]`, of a random genotype of a space."""
    seed = study.config.seed
    depth = f"-{cells}cells" if cells else ""
    folder, name = study.folder / FOLDER, f"seed{seed}-{space}{depth}-{number}.json"
    if (folder / name).exists():
        row = read_json(folder, name)
        if row["seeds"] >= seeds:
            found: list[list[float]] = row["accuracies"][:seeds]
            return found
    config = of_space(study.config, space, cells)
    searched = space_of(config, problem.model_0)
    draw, training = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
    genotype = searched.sample(draw)
    spec = searched.build(genotype, "final")
    keys = jax.vmap(jax.random.fold_in, (None, 0))(training, np.arange(seeds))
    start = time.perf_counter()
    epochs, settings = config.recipes.epochs_final, config.recipes.training
    curves = learning_curves(spec, keys, problem.train, problem.valid, epochs, settings).tolist()
    took = time.perf_counter() - start
    here = provenance()
    row = {
        "space": space,
        "cells": cells,
        "genotype": list(genotype),
        "seeds": seeds,
        "accuracies": curves,
        "seconds": round(took, 1),
        "machine": f"{here['device']}, {here['num_cpus']} cores, jax {here['versions']['jax']}",
    }
    with writing(folder):
        folder.mkdir(exist_ok=True)
    write_json(folder / name, row)
    ends = ", ".join(f"{100 * curve[-1]:.2f}" for curve in curves)
    study.console.print(f"{name}: {ends} %, {took:.0f} s", markup=False, highlight=False)
    return curves


def machines(folder: pathlib.Path) -> str:
    """Where the trainings of a study were made."""
    rows = (read_json(folder / FOLDER, path.name) for path in sorted((folder / FOLDER).iterdir()))
    return " and on ".join(dict.fromkeys(row["machine"] for row in rows))
