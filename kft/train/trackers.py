"""Copies of a run's log in experiment trackers, through accelerate's classes for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kft.errors import UsageError, name_list

FOLDER = "trackers"
"""Where in a run folder trackers that write files do so."""


def require_trackers(names: Sequence[str]) -> None:
    """See that the trackers' packages are there; each is called as its tracker.

    Raises:
        UsageError: If one isn't installed.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"The package of {name_list(missing)} isn't installed",
            where="`train.report_to`",
            expected="packages that are there",
            hint=f"`pip install {' '.join(missing)}`",
        )


class Trackers:
    """The trackers of a run; each is told every line of its log.

    Args:
        names: As ``train.report_to`` has them.
        run_name: What the run is called there.
        folder: The run folder.
        settings: The recipe as flat key -> value.
    """

    def __init__(
        self, names: Sequence[str], run_name: str, folder: Path, settings: Mapping[str, Any]
    ) -> None:
        self._trackers = [_make(name, run_name, folder / FOLDER) for name in names]
        plain = {key: _plain(value) for key, value in settings.items()}
        for tracker in self._trackers:
            tracker.start()
            tracker.store_init_configuration(plain)

    def log(self, record: Mapping[str, Any]) -> None:
        """Tell a line of the log; it has its step in it."""
        values = _numbers({key: value for key, value in record.items() if key != "step"})
        for tracker in self._trackers:
            tracker.log(values, step=int(record["step"]))

    def close(self) -> None:
        """Finish what was begun."""
        for tracker in self._trackers:
            tracker.finish()


def _make(name: str, run_name: str, folder: Path) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS  # slow, and seldom needed

    kind: Any = LOGGER_TYPE_TO_CLASS[name]
    return kind(run_name, str(folder)) if kind.requires_logging_directory else kind(run_name)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _numbers(record: Mapping[str, Any], above: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{above}{key}/")
        elif isinstance(value, int | float):
            found[above + key] = value
    return found
