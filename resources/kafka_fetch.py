"""How much a source asks a broker for at once: little, until it is known how large the records are.

librdkafka unpacks an answer as a whole, however little its queue may hold, and batches that compress a
thousandfold unpack to a thousand times what was asked for. Small records are asked for in large portions,
which is quick; of large ones the broker gives a batch, however little it was asked for. Decides when that
changes: a client that asks otherwise goes on where the one before it was. It refuses nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from resources.kafka_native import native
from resources.kafka_records import Chunk, Messages, Source

_LITTLE: Mapping[str, Any] = {
    "fetch.message.max.bytes": 1_000,
    "fetch.max.bytes": 1_000,
    "message.max.bytes": 1_000,  # the client would ask for this much at least
}
_ROWS, _BYTES = 1_000, 8 << 20  # after so many the portions are thought of again
_SMALL, _LARGE = 32 << 10, 64 << 10  # bytes of a record, on average


class Portions:
    """A `Source` that begins with little, and asks as its options say while records are small."""

    def __init__(self, options: Mapping[str, Any], topic: str) -> None:
        self._options, self._topic = options, topic
        self._places: dict[int, int] = {}
        self._rows = self._bytes = 0
        self._little = True
        self._source = self._made()

    def begin(self, places: Mapping[int, int]) -> None:
        """As `Source` says."""
        self._source.begin(places)
        self._places |= places

    def end(self, partitions: Iterable[int]) -> None:
        """As `Source` says."""
        gone = list(partitions)
        self._source.end(gone)
        for partition in gone:
            self._places.pop(partition, None)

    def take(self, rows: int, size: int, seconds: float) -> Chunk:
        """As `Source` says."""
        chunk = self._source.take(rows, size, seconds)
        self._places |= {p: place for p, place in chunk.reached.items() if p in self._places}
        self._rows, self._bytes = self._rows + chunk.records.height, self._bytes + chunk.size
        if self._rows >= _ROWS or self._bytes >= _BYTES:
            mean = self._bytes / max(1, self._rows)
            self._rows = self._bytes = 0
            if mean <= _SMALL if self._little else mean >= _LARGE:
                self._change()
        return chunk

    def close(self) -> None:
        """As `Source` says."""
        self._source.close()

    def _made(self) -> Source:
        options = {**self._options, **(_LITTLE if self._little else {})}
        return native(options, self._topic) or Messages(options, self._topic)

    def _change(self) -> None:
        """Ask otherwise from here on; what was fetched ahead comes again."""
        self._little = not self._little
        self._source.close()
        self._source = self._made()
        if self._places:
            self._source.begin(self._places)
