"""The public names: sorted, importable, and those that other code relies on."""

import importlib

import pytest

import nash_jax as nj

PACKAGES = [
    "nash_jax",
    *(
        f"nash_jax.{room}"
        for room in (
            *("architecture", "data", "estimation", "morphisms", "runs", "search", "training"),
        )
    ),
]


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_sorted_and_importable(package):
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_names_that_stay_fixed():
    assert {"Architecture", "Node", "apply", "chain", "count_flops", "count_params"} <= set(dir(nj))
    assert {"from_json", "init", "load", "morphisms", "ops", "to_json"} <= set(dir(nj))
    names = {"apply_random", "deepen", "sample", "skip_add", "skip_concat", "widen"}
    assert names <= set(dir(nj.morphisms))
