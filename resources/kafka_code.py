"""The machine code that turns Kafka's messages into Arrow buffers, and the client's own library under it.

Decides whether they can be had: the code was built (`sluice/native/reader.c`), the client's library is in
this process already (no second one is loaded), and a message lies in it as the code believes. Else None.
"""

import ctypes
import os
from ctypes import POINTER, Structure, addressof, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any

import confluent_kafka.cimpl
import polars as pl
import pyarrow as pa

from sluice.native import library
from sluice.tables import RECORD

_PAIR = pa.struct([("key", pa.string_view()), ("value", pa.binary_view())])
_ARROW: dict[str, pa.DataType] = {  # RECORD, as the code gives it
    "topic": pa.string_view(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "timestamp_ms": pa.int64(),
    "timestamp": pa.timestamp("us", "UTC"),
    "timestamp_type": pa.string_view(),
    "key": pa.binary_view(),
    "value": pa.binary_view(),
    "headers": pa.large_list(_PAIR),
}
_ARRAY_BYTES = 80  # of one ArrowArray
_FUNCTIONS = (  # what the code calls, in its order
    "rd_kafka_consume_batch_queue",
    "rd_kafka_message_destroy",
    "rd_kafka_message_timestamp",
    "rd_kafka_message_headers",
    "rd_kafka_header_get_all",
    "rd_kafka_message_errstr",
)
_RETURN_POINTERS = (
    "rd_kafka_conf_new",
    "rd_kafka_new",
    "rd_kafka_queue_get_consumer",
    "rd_kafka_topic_partition_list_new",
    "rd_kafka_topic_partition_list_add",
    "rd_kafka_incremental_assign",
    "rd_kafka_incremental_unassign",
    "rd_kafka_topic_new",
    "rd_kafka_queue_get_main",
    "rd_kafka_queue_poll",
    "rd_kafka_event_message_next",
)
_PRODUCER, _REPORTS, _COPIED, _QUEUED = 0, 1, 2, 1  # librdkafka's numbers, for the test of messages
_SOON = 5_000  # milliseconds; a report comes at once
_NO_OFFSET = -1001


class _Event(Structure):
    _fields_ = (("code", c_int32), ("partition", c_int32), ("offset", c_int64), ("text", c_char_p))


class _Reach(Structure):
    _fields_ = (("partition", c_int64), ("next", c_int64))


class _Chunk(Structure):
    """The head of `struct chunk`; the rest is its own."""

    _fields_ = (
        ("topic", c_char_p),
        ("rows", c_int64),
        ("bytes", c_int64),
        ("events", c_int64),
        ("reaches", c_int64),
        ("odd_names", c_int64),
        ("event", POINTER(_Event)),
        ("reach", POINTER(_Reach)),
    )


class Code:
    """The machine code and the client's library, ready to be called."""

    def __init__(self, code: ctypes.CDLL, client: ctypes.CDLL) -> None:
        self.code, self.client = code, client
        self.functions = (c_void_p * len(_FUNCTIONS))(
            *(ctypes.cast(getattr(client, name), c_void_p).value for name in _FUNCTIONS)
        )
        for name in _RETURN_POINTERS:
            getattr(client, name).restype = c_void_p
        client.rd_kafka_error_string.restype = c_char_p

    def chunk(self, topic: bytes) -> _Chunk:
        """Make an empty chunk; the caller keeps `topic`, and lets `discard` free the chunk's memory."""
        size = c_int64.in_dll(self.code, "chunk_bytes").value
        chunk = _Chunk.from_buffer(ctypes.create_string_buffer(size))
        chunk.topic = topic
        return chunk

    def frame(self, chunk: _Chunk) -> pl.DataFrame:
        """Give the rows of a chunk (columns: RECORD) without copying them; it is empty after that."""
        if not chunk.rows:
            return pl.DataFrame(schema=RECORD)
        odd = chunk.odd_names
        arrays = (ctypes.c_char * (_ARRAY_BYTES * len(_ARROW)))()
        if self.code.hand_over(byref(chunk), arrays):
            raise MemoryError
        columns = {
            name: pa.Array._import_from_c(addressof(arrays) + at * _ARRAY_BYTES, kind)  # noqa: SLF001  # as documented
            for at, (name, kind) in enumerate(_ARROW.items())
        }
        if odd:
            columns["headers"] = _readable(columns["headers"])
        return pl.DataFrame([pl.Series(name, column) for name, column in columns.items()])


@cache
def code() -> Code | None:
    """Find what a native source needs; None where something is missing."""
    built = library("reader")
    if built is None:
        return None
    try:  # the client's module leads to the library that it is linked with, and is loaded already
        client = ctypes.CDLL(confluent_kafka.cimpl.__file__, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        ready = Code(built, client)
    except (OSError, AttributeError):
        return None
    return ready if _reads_right(ready) else None


def _reads_right(ready: Code) -> bool:
    """Whether the code finds in a message what was put into it: in one that a producer gives back unsent."""
    client, chunk = ready.client, ready.chunk(b"topic")
    options = c_void_p(client.rd_kafka_conf_new())
    client.rd_kafka_conf_set_log_cb(options, None)
    client.rd_kafka_conf_set_events(options, _REPORTS)
    handle = c_void_p(client.rd_kafka_new(_PRODUCER, options, None, c_size_t(0)))
    topic = c_void_p(client.rd_kafka_topic_new(handle, b"topic", None))
    client.rd_kafka_produce(topic, 7, _COPIED, b"value", c_size_t(5), b"", c_size_t(0), None)
    client.rd_kafka_purge(handle, _QUEUED)
    queue = c_void_p(client.rd_kafka_queue_get_main(handle))
    event = c_void_p(client.rd_kafka_queue_poll(queue, _SOON))
    message = c_void_p(client.rd_kafka_event_message_next(event)) if event else None
    found: list[Any] = []
    if message:
        error = c_int.from_address(message.value or 0)  # the message's first member
        purged, error.value = error.value, 0
        if not ready.code.keep(byref(chunk), ready.functions, message):
            found = ready.frame(chunk).select("topic", "partition", "offset", "key", "value").rows()
        error.value = purged
    if event:
        client.rd_kafka_event_destroy(event)
    ready.code.discard(byref(chunk))
    client.rd_kafka_queue_destroy(queue)
    client.rd_kafka_topic_destroy(topic)
    client.rd_kafka_destroy(handle)
    return found == [("topic", 7, _NO_OFFSET, b"", b"value")]


def _readable(headers: pa.Array) -> pa.Array:
    """Give headers whose names may be no Unicode with what cannot be read replaced."""
    names, values = headers.values.flatten()
    raw = pa.Array.from_buffers(pa.binary_view(), len(names), names.buffers()).to_pylist()
    read = pa.array([name.decode(errors="replace") for name in raw], _PAIR[0].type)
    return pa.LargeListArray.from_arrays(
        headers.offsets, pa.StructArray.from_arrays([read, values], fields=list(_PAIR))
    )
