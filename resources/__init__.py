"""The connections: Kafka, the lake, dbt; the folder of contracts; the settings."""

from typing import Any


def connections() -> dict[str, Any]:
    """Make the resources that assets ask for, from the settings."""
    from resources.dbt import dbt_resource  # noqa: PLC0415  # importing the lake alone must not bring dbt
    from resources.kafka import KafkaResource  # noqa: PLC0415
    from resources.storage import lake_resource  # noqa: PLC0415

    return {"lake": lake_resource(), "kafka": KafkaResource(), "dbt": dbt_resource()}
