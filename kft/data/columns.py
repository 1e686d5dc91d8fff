"""Columns of Arrow files: which Arrow type a field has, and how one value is read from it.

Values are read from the columns' own memory, so that a mapped file is never copied as a whole.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

_KINDS: dict[str, Any] = {
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "double": np.dtype(np.float64),
}
_TURN = ("role", "content", "input")  # keys of a message


def hints(kind: type[Any]) -> dict[str, Any]:
    """Field -> type without ``None``, in the order of the constructor's arguments."""
    known = get_type_hints(kind)
    return {field.name: _without_none(known[field.name]) for field in fields(kind)}


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    (known,) = [choice for choice in get_args(hint) if choice is not type(None)]
    return known


def arrow_type(hint: Any) -> Any:
    """The Arrow type of a field's type.

    Raises:
        TypeError: If there is none.
    """
    import pyarrow

    plain = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    if hint is int:
        return pyarrow.int64()
    if hint in plain:
        return plain[hint]
    if get_origin(hint) in (list, tuple):
        item = get_args(hint)[0]
        if item is int:
            return pyarrow.list_(pyarrow.int32())
        if get_origin(item) is Mapping:
            turn = pyarrow.struct([(key, pyarrow.string()) for key in _TURN])
            return pyarrow.list_(turn)
        return pyarrow.list_(arrow_type(item))
    raise TypeError(f"no column can hold {hint}")


def size(value: Any) -> int:
    """Characters and numbers that a value holds, about as many as it takes memory."""
    if isinstance(value, str | list):
        return len(value)
    if isinstance(value, tuple):
        return sum(len(part) if isinstance(part, str) else _item_size(part) for part in value)
    return 0


def _item_size(value: Any) -> int:
    return sum(map(len, value.values())) if isinstance(value, Mapping) else 1


def plain(column: Sequence[Any], hint: Any) -> Sequence[Any]:
    """The values as pyarrow takes them.

    A place names a file, and a file's name may hold bytes that are no text; those are shown as
    U+FFFD. Rows themselves have no such characters: they are refused when they are read.
    """
    if hint is not str:
        return column
    try:
        "".join(text for text in column if text is not None).encode()
    except UnicodeEncodeError:
        return [None if v is None else v.encode(errors="replace").decode() for v in column]
    return column


def getter(array: Any, hint: Any) -> Callable[[int], Any]:
    """What gives one row's value of a column that has some."""
    get = _value_getter(array, hint)
    if not array.null_count:
        return get
    is_set = valid(array)
    return lambda row: get(row) if is_set[row] else None


def _value_getter(array: Any, hint: Any) -> Callable[[int], Any]:
    if hint is str:
        return _text_getter(array)
    if get_origin(hint) not in (list, tuple):
        values = flags(array) if hint is bool else numbers(array)
        return lambda row: hint(values[row])
    make, item = get_origin(hint), get_args(hint)[0]
    begins = offsets(array).data  # gives plain numbers, and copies nothing
    if item is int:
        items = numbers(array.values)
        if make is list:
            return lambda row: items[begins[row] : begins[row + 1]].tolist()
        return lambda row: tuple(items[begins[row] : begins[row + 1]].tolist())
    inner = _text_getter(array.values) if item is str else _turn_getter(array.values)
    return lambda row: make(map(inner, range(begins[row], begins[row + 1])))


def _text_getter(array: Any) -> Callable[[int], str]:
    _, _, data = array.buffers()
    begins = offsets(array).data
    if data is None:  # every text is empty
        return lambda _: ""
    content = memoryview(data)
    return lambda row: str(content[begins[row] : begins[row + 1]], "utf-8")


def _turn_getter(array: Any) -> Callable[[int], Mapping[str, str]]:
    """Messages; a key that a turn hasn't is left out of it again."""
    parts = [
        (key, getter(array.field(key), str))
        for key in _TURN
        if array.field(key).null_count < len(array)
    ]
    return lambda row: {key: text for key, get in parts if (text := get(row)) is not None}


def offsets(array: Any) -> np.ndarray:
    """Where each text or list begins in what holds them, and where the last one ends."""
    begins = np.frombuffer(array.buffers()[1], dtype=np.int32)
    return begins[array.offset : array.offset + len(array) + 1]


def numbers(array: Any) -> np.ndarray:
    """The numbers of an array, not copied; any number where there is none."""
    whole: np.ndarray = np.frombuffer(array.buffers()[1], dtype=_KINDS[str(array.type)])
    return whole[array.offset : array.offset + len(array)]


def flags(array: Any) -> np.ndarray:
    """The truth values of an array, bool (rows,)."""
    return _bits(array.buffers()[1], array)


def valid(array: Any) -> np.ndarray:
    """Whether each row has a value, bool (rows,)."""
    if not array.null_count:
        return np.ones(len(array), dtype=bool)
    return _bits(array.buffers()[0], array)


def _bits(buffer: Any, array: Any) -> np.ndarray:
    end = array.offset + len(array)
    packed = np.frombuffer(buffer, dtype=np.uint8, count=-(-end // 8))
    return np.unpackbits(packed, count=end, bitorder="little")[array.offset :].astype(bool)
