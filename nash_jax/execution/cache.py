"""The persistent compilation cache: a folder whose programs are run, and so must be trusted."""

from __future__ import annotations

import os
import pathlib
import stat

import jax


def check_cache(folder: pathlib.Path) -> None:
    """Make the folder of the cache, or check that only the user can put programs there.

    Raises:
      ValueError: if it cannot be written, or others can write it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ValueError(
            f"cache_dir {folder} cannot be used: {error.strerror}; choose another, or none"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"cache_dir {folder} cannot be written; choose another, or none")
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if hasattr(os, "getuid") and (shared or status.st_uid != os.getuid()):
        raise ValueError(
            f"cache_dir {folder} must be writable by you alone, because what is in it is run; "
            "choose another, none, or `chmod go-w` it if it is yours"
        )


def use_cache(folder: pathlib.Path | str) -> None:
    """Keep compiled programs in a folder, however quickly they were compiled."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
