"""The source whose records never become Python objects: librdkafka's own queue into Arrow buffers.

Decides how a consumer is made without the Python client, of the same options, and let go. It refuses options
that only the Python client understands: where those are set, or the machine code is missing, `native` gives
None, and the client's messages do the same work.
"""

import ctypes
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from threading import Lock
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from resources.kafka_code import Code, code
from resources.kafka_records import Chunk, Event

_ON_ERROR = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_void_p)
_OURS = {"logger", "error_cb"}  # options of the Python client, not of librdkafka
_CONSUMER = 1
_NO_LEAVING = 8  # no consumer group is left: none was joined
_TEXT = 512


def native(config: Mapping[str, Any], topic: str) -> "Native | None":
    """Make a native source, where the machine code is there and the options are such that it takes them."""
    ready = code()
    plain = all(isinstance(value, str | int | float) for name, value in config.items() if name not in _OURS)
    return Native(ready, config, topic) if ready and plain else None


class Native:
    """A `Source` on a consumer of its own."""

    def __init__(self, ready: Code, config: Mapping[str, Any], topic: str) -> None:
        self._ready = ready
        self._topic = topic.encode()
        self._chunk = ready.chunk(self._topic)
        self._ear = _Ear(config.get("error_cb"))
        self._handle = _open(ready.client, config, self._ear)
        self._queue = c_void_p(ready.client.rd_kafka_queue_get_consumer(self._handle))
        self._busy = Lock()  # what is freed while it works would take the process with it
        self._free = weakref.finalize(
            self, _free, ready, self._handle, self._queue, self._chunk, self._ear, self._busy, os.getpid()
        )

    def begin(self, places: Mapping[int, int]) -> None:
        """As `Source` says."""
        self._assign("rd_kafka_incremental_assign", places)

    def end(self, partitions: Iterable[int]) -> None:
        """As `Source` says."""
        self._assign("rd_kafka_incremental_unassign", dict.fromkeys(partitions, 0))

    def take(self, rows: int, size: int, seconds: float) -> Chunk:
        """As `Source` says.

        Raises:
            MemoryError: it does not hold the records.
        """
        chunk, code = self._chunk, self._ready.code
        with self._at_work():
            bounds = c_int64(rows), c_int64(size), c_int64(int(seconds * 1000))
            if code.take(byref(chunk), self._ready.functions, self._queue, *bounds):
                code.discard(byref(chunk))
                raise MemoryError
            self._ear.raise_heard()
            return self._given(chunk)

    def close(self) -> None:
        """As `Source` says."""
        self._free()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._busy:
            if not self._free.alive:
                raise RuntimeError("the source is closed")
            yield

    def _given(self, chunk: Any) -> Chunk:
        """Give what a chunk has, and empty it."""
        events = [
            Event(
                KafkaError(told.code, told.text.decode(errors="replace")),
                told.partition if told.partition >= 0 else None,
                told.offset if told.offset >= 0 else None,
            )
            for told in (chunk.event[at] for at in range(chunk.events))
        ]
        reached = {told.partition: told.next for told in (chunk.reach[at] for at in range(chunk.reaches))}
        self._ready.code.forget(byref(chunk))
        size = chunk.bytes
        return Chunk(self._ready.frame(chunk), size, reached, events)

    def _assign(self, function: str, places: Mapping[int, int]) -> None:
        client = self._ready.client
        listed = c_void_p(client.rd_kafka_topic_partition_list_new(len(places)))
        for partition, offset in places.items():
            client.rd_kafka_topic_partition_list_add(listed, self._topic, partition)
            client.rd_kafka_topic_partition_list_set_offset(listed, self._topic, partition, c_int64(offset))
        with self._at_work():
            error = c_void_p(getattr(client, function)(self._handle, listed))
        client.rd_kafka_topic_partition_list_destroy(listed)
        if error:
            failure = KafkaError(
                client.rd_kafka_error_code(error), client.rd_kafka_error_string(error).decode()
            )
            client.rd_kafka_error_destroy(error)
            raise KafkaException(failure)


class _Ear:
    """Tells the caller's `error_cb`, within `take`; what it raises waits for `raise_heard`."""

    def __init__(self, tell: Callable[[KafkaError], object] | None) -> None:
        self._tell = tell
        self._raised: BaseException | None = None
        self.callback = _ON_ERROR(self._hear) if tell else None  # librdkafka calls it as long as it lives

    def raise_heard(self) -> None:
        """Raise what the callback raised, once."""
        raised, self._raised = self._raised, None
        if raised:
            raise raised

    def _hear(self, _handle: int, error: int, reason: bytes, _opaque: int) -> None:
        try:
            if self._tell:
                self._tell(KafkaError(error, reason.decode(errors="replace")))
        except BaseException as raised:  # noqa: BLE001  # nothing may pass through C
            self._raised = raised


def _open(client: ctypes.CDLL, config: Mapping[str, Any], ear: _Ear) -> c_void_p:
    """Make a consumer that logs nothing; wrong options are the client's own error."""
    options = c_void_p(client.rd_kafka_conf_new())
    text = ctypes.create_string_buffer(_TEXT)
    size = c_size_t(_TEXT)
    client.rd_kafka_conf_set_log_cb(options, None)
    if ear.callback:
        client.rd_kafka_conf_set_error_cb(options, ear.callback)
    for name, value in config.items():
        told = str(value).lower() if isinstance(value, bool) else str(value)
        if name not in _OURS and client.rd_kafka_conf_set(options, name.encode(), told.encode(), text, size):
            client.rd_kafka_conf_destroy(options)
            raise KafkaException(KafkaError(KafkaError._INVALID_ARG, text.value.decode(errors="replace")))  # noqa: SLF001
    handle = c_void_p(client.rd_kafka_new(_CONSUMER, options, text, size))
    if not handle:
        client.rd_kafka_conf_destroy(options)
        raise KafkaException(KafkaError(KafkaError._INVALID_ARG, text.value.decode(errors="replace")))  # noqa: SLF001
    client.rd_kafka_poll_set_consumer(handle)
    return handle


def _free(
    ready: Code, handle: c_void_p, queue: c_void_p, chunk: Any, _ear: _Ear, busy: Lock, process: int
) -> None:
    if os.getpid() != process:  # a fork has the memory, not the threads
        return
    with busy:
        ready.code.discard(byref(chunk))
        ready.client.rd_kafka_queue_destroy(queue)
        ready.client.rd_kafka_destroy_flags(handle, _NO_LEAVING)
