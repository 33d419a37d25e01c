"""The settings of a run in `config.json`: by group, and only where they are not the defaults.

So a run outlives the code: a setting that it does not name has its default, also one that came
later. Version 603c823 and those soon after wrote all settings side by side, without a version.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from nash_jax.record.files import DamagedError, checksum

#: Of `config.json`.
VERSION = 2

#: Settings that name a place, each with the entry that identifies the content: only that counts.
KNOWN_BY = {"dataset": "data", "model_0": "network"}


class Settings(NamedTuple):
    """The settings of a run as JSON has them.

    Attributes:
      values: by name.
      defaults: likewise.
      groups: of each setting: 'data', 'space', 'strategy', 'recipes', 'bounds' or 'run'.
      later: the settings that version 603c823 did not know.
    """

    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    groups: Mapping[str, str]
    later: Collection[str] = ()

    @property
    def given(self) -> dict[str, Any]:
        """Those that are not the defaults."""
        return {name: x for name, x in self.values.items() if x != self.defaults[name]}

    @property
    def early(self) -> dict[str, Any]:
        """As early versions had them."""
        given = self.given
        return {n: x for n, x in self.values.items() if n not in self.later or n in given}


def written(settings: Settings) -> dict[str, Any]:
    """What `config.json` says of the settings."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in settings.given.items():
        groups.setdefault(settings.groups[name], {})[name] = value
    return {"version": VERSION, "settings": groups}


def side_by_side(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` says, with its settings side by side; those of defaults may be missing.

    Raises:
      DamagedError: if it is of a later version, or no settings are there.
    """
    if "version" not in config:
        return dict(config)
    if config["version"] != VERSION:
        raise DamagedError(
            f"config.json is of version {config['version']!r:.40}, this program knows {VERSION}; "
            "take a later one"
        )
    groups = config.get("settings")
    if not isinstance(groups, dict) or not all(isinstance(x, dict) for x in groups.values()):
        raise DamagedError("config.json is damaged: settings must be groups of settings")
    rest = {name: value for name, value in config.items() if name not in ("version", "settings")}
    return {name: x for group in groups.values() for name, x in group.items()} | rest


def fingerprint(settings: Mapping[str, Any], contents: Mapping[str, Any]) -> str:
    """What every line of the ledger says about the settings and data that it was made with."""
    known = {**settings, **contents}
    return checksum({n: x for n, x in known.items() if KNOWN_BY.get(n) not in known})
