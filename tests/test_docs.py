"""README and docs/ keep their promises: examples run, links work, the table of edits is true."""

from __future__ import annotations

import pathlib
import re

import pytest
from edit_cases import stated_bounds
from helpers import own_tables

from docs import draw_morphisms
from nash_jax.morphisms import EDITS
from nash_jax.troubleshooting import PAGE, SYMPTOMS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_EXAMPLES = [page for page in PAGES if "```python\n" in page.read_text()]
MORPHISMS = (ROOT / "docs" / "morphisms.md").read_text()


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.name)
def test_python_examples_run(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names = {}
    with own_tables():
        for block in blocks:  # of one page, in order
            exec(compile(block, page.name, "exec"), names)


def test_what_extends_a_search_takes_less_than_forty_lines():
    page = ROOT / "docs" / "extending.md"
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        assert len([line for line in block.splitlines() if line.strip()]) < 40


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r'(?:\]\(|src=")(?!https:)([^)"]+)', page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_errors_that_are_explained_stand_in_their_section():
    page = (ROOT / PAGE).read_text()
    code = "".join(path.read_text() for path in (ROOT / "nash_jax").rglob("*.py"))
    code = re.sub(
        r'"\s*\n?\s*f?"', "", code.replace((ROOT / "nash_jax/troubleshooting.py").read_text(), "")
    )
    for section, symptoms in SYMPTOMS.items():
        text = page.split(f"## {section}\n")[1].split("\n## ")[0]
        for words in symptoms:
            assert words in text
            assert words in code, words  # an error that is still raised


def rows(text):
    """The rows of the tables of edits: by the edit's name, its cells."""
    lines = [line for line in text.splitlines() if re.match(r"\| `[A-Z]\w+\(", line)]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {re.match(r"`(\w+)", row[0])[1]: row for row in cells}


def test_every_edit_has_one_row():
    assert rows(MORPHISMS).keys() == EDITS.keys()
    assert len(re.findall(r"^\| `[A-Z]\w+\(", MORPHISMS, re.MULTILINE)) == len(EDITS)


@pytest.mark.parametrize("kind", [kind for kind in EDITS if kind != "Sequence"])
def test_a_row_gives_the_fields_and_the_tested_bounds(kind):
    row = rows(MORPHISMS)[kind]
    fields = re.findall(r"(\w+)(?:=[\w.]+)?[,)]", row[0])
    assert fields == list(EDITS[kind].__dataclass_fields__)
    bounds = re.match(r"([\de.-]+), ([\de.-]+)", row[3])
    assert (float(bounds[1]), float(bounds[2])) == stated_bounds(EDITS[kind])
    assert row[4] == f"![{kind}](images/morphisms/{kind}.svg)"


def test_the_pictures_are_those_of_the_script(tmp_path):
    draw_morphisms.main(tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {f"{kind}.svg" for kind in EDITS if kind != "Sequence"}
    assert drawn == {path.name for path in draw_morphisms.FOLDER.iterdir()}
