"""How much is asked of a broker at once: what changes it, and that nothing is lost or doubled by it."""

from contextlib import closing

import polars as pl
import pytest

from resources.kafka import KafkaResource
from resources.kafka_fetch import Portions

pytestmark = pytest.mark.integration


def test_a_source_asks_for_little_until_records_are_known_to_be_small(kafka, topic, monkeypatch):
    """Each record once and in order across both changes: small ones, large ones, small ones again."""
    made, opened = topic(partitions=2), []
    real = Portions._made
    monkeypatch.setattr(Portions, "_made", lambda self: opened.append(self._little) or real(self))
    sizes = [10] * 3_000 + [100_000] * 150 + [10] * 3_000
    for partition in range(2):
        values = (b"%d " % n + b"x" * size for n, size in enumerate(sizes))
        made.produce(values, partition=partition, **{"enable.idempotence": True})  # retries keep the order
    reader = KafkaResource(bootstrap_servers=kafka).tail(made.name, {0: 0, 1: 5})
    with closing(reader):
        found = []
        while sum(rows.height for rows in found) < 2 * len(sizes) - 5:
            found.append(reader.take(500, 1 << 20, 10.0).records)
    rows = pl.concat(found)
    for partition, first in ((0, 0), (1, 5)):
        mine = rows.filter(partition=partition)
        assert mine["offset"].to_list() == list(range(first, len(sizes)))
        assert [int(value.split()[0]) for value in mine["value"]] == list(range(first, len(sizes)))
    assert opened == [True, False, True, False]
