"""What README promises: its example runs, and the files that it shows are there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_library_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})


def test_pictures_and_files_are_there():
    for path in re.findall(r'(?:\]\(|src=")([^)"]+)', README):
        assert (ROOT / path).exists(), path
