"""All assets, checks and jobs of the streams declared: what one file in `streams/` brings about."""

from collections.abc import Sequence

import dagster as dg

from assets.bronze import bronze_asset, bronze_checks, topic_asset
from assets.dimensions import dimension_asset, dimension_checks
from assets.gold import gold_assets
from assets.reconciliation import reconciliation_asset, reconciliation_checks
from assets.silver import silver_assets, silver_checks
from sluice.contract import Changes, Stream
from sluice.tables import LEDGER_TABLE, TILES_TABLE


def assets(streams: Sequence[Stream]) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Make the assets of every layer, and show what they read and keep beside them."""
    topics = {stream.topic: topic_asset(stream) for stream in streams}
    system = [
        dg.AssetSpec(table.name.split("/"), group_name="system", description=table.description)
        for table in (LEDGER_TABLE, TILES_TABLE)
    ]
    return [
        *topics.values(),
        *system,
        *(bronze_asset(stream) for stream in streams),
        *(silver_assets(stream) for stream in streams),
        *(dimension_asset(stream) for stream in streams if isinstance(stream, Changes)),
        *(reconciliation_asset(stream) for stream in streams),
        *gold_assets(streams),
    ]


def checks(streams: Sequence[Stream]) -> list[dg.AssetChecksDefinition]:
    """Make the checks of every layer; gold's are dbt's tests, and come with its assets."""
    return [
        *(bronze_checks(stream) for stream in streams),
        *(silver_checks(stream) for stream in streams),
        *(dimension_checks(stream) for stream in streams if isinstance(stream, Changes)),
        *(reconciliation_checks(stream) for stream in streams),
    ]
