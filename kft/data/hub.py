"""Rows of a data set on the Hugging Face hub, through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kft.data.row import Row
from kft.data.sources import HubDataset
from kft.errors import DataError

_BATCH_ROWS = 1000


def hub_rows(source: HubDataset) -> Iterator[Row]:
    """Rows of a hub data set; `datasets` keeps them, and finds them again without a network.

    Raises:
        DataError: If the machine is offline and the data set isn't kept, or there is no such
            data set, configuration, split or revision.
    """
    import datasets

    try:
        dataset = datasets.load_dataset(
            source.path,
            name=source.config,
            split=source.split,
            revision=source.revision,
            streaming=source.streamed,
        )
    # Network errors are OSErrors; a wrong configuration or split is a ValueError.
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        is_offline = isinstance(error, ConnectionError) or datasets.config.HF_HUB_OFFLINE
        raise DataError(
            f"Can't load the data set `{source.path}`: {_first_line(error)}",
            where=str(source),
            expected="a data set on the hub, with this configuration, split and revision",
            hint="The machine is offline: give a path of files that are here."
            if is_offline
            else None,
        ) from error
    return dataset_rows(dataset, str(source))


def dataset_rows(dataset: Any, name: str) -> Iterator[Row]:
    """Rows of a ``datasets.Dataset``; labels that it has names for are given by name.

    Args:
        dataset: The data set, of one split; also an ``IterableDataset``.
        name: What places begin with.
    """
    names = {
        column: found
        for column, feature in (dataset.features or {}).items()  # a stream may know none
        if (found := _label_names(feature)) is not None
    }
    number = 0
    for batch in dataset.with_format(None).iter(batch_size=_BATCH_ROWS):
        for values in zip(*batch.values(), strict=True):
            number += 1
            fields = dict(zip(batch, values, strict=True))
            for column, labels in names.items():
                fields[column] = _named(fields[column], labels)
            yield Row(fields, f"{name}:row {number}", numbers_as_text=True)


def _label_names(feature: Any) -> list[str] | None:
    inner = getattr(feature, "feature", feature)  # a list of labels
    names = getattr(inner, "names", None)
    return list(names) if isinstance(names, list | tuple) else None


def _named(value: Any, labels: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, labels) for item in value]
    if isinstance(value, int):
        return labels[value] if 0 <= value < len(labels) else None  # -1 is a hidden label
    return value


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
