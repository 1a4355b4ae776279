"""Values that the source did not send: the connector writes a placeholder for them, in the column's own form.

A value stands for nothing sent only where all of it is the placeholder: a text that begins like it is a text.
"""

import base64
import hashlib
import json
import uuid
from typing import Any

import polars as pl

from sluice.json.strict import Number

_HEX = "hex:"  # before a placeholder whose bytes are given


class Unavailable:
    """Knows a placeholder in each form: text, bytes, elements of arrays, members of objects, JSON.

    `texts` are its forms as text, of which each stands for a value that was not sent.
    """

    def __init__(self, placeholder: str) -> None:
        data = placeholder.encode()
        if placeholder.startswith(_HEX):
            data = bytes.fromhex(placeholder.removeprefix(_HEX))
            placeholder = data.decode(errors="replace")
        encoded = {base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(), data.hex()}
        pair = {placeholder: placeholder}
        written = {json.dumps(pair), json.dumps(pair, separators=(",", ":")), json.dumps(placeholder)}
        self._name = placeholder
        self.texts = frozenset({placeholder, *encoded, *written})
        self._sizes = frozenset(map(len, self.texts))
        # An array of numbers has the placeholder's bytes as its elements, one of UUIDs a UUID made of them.
        self._numbers = [Number(byte) for byte in data]
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        self._elements = frozenset({placeholder, *encoded, str(uuid.UUID(bytes=digest, version=3))})

    def __call__(self, value: Any, dtype: pl.DataType) -> bool:
        """Tell whether a value, read for a column of a type, stands for one that was not sent."""
        kind = type(value)
        if kind is str:
            return len(value) in self._sizes and value in self.texts
        if value is None or kind is Number or kind is bool:
            return False
        if isinstance(value, list):
            if isinstance(dtype, pl.String) or not value:
                return False
            return value == self._numbers or (len(value) == 1 and self._stands(value[0]))
        return isinstance(value, dict) and list(value) == [self._name]

    def _stands(self, element: Any) -> bool:
        is_text = isinstance(element, str) and not isinstance(element, Number)
        return (is_text and element in self._elements) or (
            isinstance(element, dict) and list(element) == [self._name]
        )
