"""Warnings of libraries about each other, of which kft's user can do nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import transformers


def silence_transformers() -> None:
    """No progress bars and no advice: they would write over kft's own display."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def silence_zero() -> None:
    """What DeepSpeed's calls have others say: torch of its older collectives, setuptools of itself.

    Its name for the collectives is the one that every torch has.
    """
    for message, category in (
        ("`torch.distributed.(all_gather_into|reduce_scatter)_tensor`", FutureWarning),
        ("Distutils was imported before Setuptools", UserWarning),
        ("Setuptools is replacing distutils", UserWarning),
    ):
        warnings.filterwarnings("ignore", message=message, category=category)


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Leave out that peft and transformers disagree on the name of activation checkpointing.

    transformers 5.23 renamed ``gradient_checkpointing_enable`` and ``is_gradient_checkpointing``;
    peft 0.21 and transformers 5.17 know only the older names, so these are what is called.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="`(is_)?gradient_checkpointing", category=FutureWarning
        )
        yield


@contextmanager
def without_hub_lookups() -> Iterator[None]:
    """Leave out that peft looks for the base's ``config.json`` on a hub that isn't asked."""
    with warnings.catch_warnings():
        for message in ("Unable to fetch remote file", "Could not find a config file in"):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        yield
