"""Which errors the page on troubleshooting says more about than fits on their line."""

from __future__ import annotations

PAGE = "docs/troubleshooting.md"

#: By section of the page, words of errors that stand in it as symptoms.
SYMPTOMS: dict[str, tuple[str, ...]] = {
    "Data": (
        "must both have a folder for each class",
        "must have both train/ and test/, or neither",
        "images cannot be read",
        "every class needs groups on both sides of a split",
    ),
    "The machine": ("JAX finds no device",),
    "Runs": (
        "goes on with the settings that it began with",
        "was made in another way than is proposed now",
        "only one process may work on",
        "all trials of step",
    ),
    "Programs of your own": (
        "a worker process ended before it had begun",
        "which is none; put the program into a file",
        "a daemonic process cannot begin",
    ),
}


def more_on(error: str) -> str:
    """The end of an error's line: the page and its section, if it says more; else nothing.

    >>> more_on("only one process may work on runs/digits-1; process 7 on host does")
    '; more on this in docs/troubleshooting.md, "Runs"'
    """
    for section, symptoms in SYMPTOMS.items():
        if any(words in error for words in symptoms):
            return f'; more on this in {PAGE}, "{section}"'
    return ""
