"""Imports go one way between the packages (rooms), and what belongs to one room stays in it."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "nash_jax"
FLOORS = (
    {"text", "checks", "troubleshooting"},
    {"machine", "jax_settings", "evaluation"},
    {"architecture", "data"},
    {"morphisms", "policies"},
    {"training"},
    {"spaces"},
    {"estimation"},
    {"search"},
    {"record"},
    {"execution", "reporting", "export"},
    {"runs"},
    {"search_flags"},
    {"launching"},
    {"benchmark", "ranking"},
    {"cli"},
)
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """The modules of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_knows_only_those_before_it(path):
    here = room_of(path)
    if here == "__init__":
        return
    for name in imported(path):
        package, _, rest = name.partition(".")
        there = rest.partition(".")[0]
        if package == "nash_jax" and there != here:
            assert ROOMS[there] < ROOMS[here], name


def test_the_config_is_known_to_runs_and_the_command_alone():
    knowing = {
        room_of(path)
        for path in FILES
        if any(
            name.endswith("config.Config") or name == "nash_jax.runs.Config"
            for name in imported(path)
        )
    }
    assert knowing == {"runs", "search_flags", "launching", "benchmark", "__init__"}


def test_only_its_own_file_the_registry_and_the_settings_name_hill_climbing():
    naming = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if "hill_climbing" in path.read_text() or "HillClimbing" in path.read_text()
    }
    assert naming == {"search/hill_climbing.py", "search/__init__.py", "runs/config.py"}
