"""A sensor, evaluated as the daemon does, for tests."""

import dagster as dg

from resources.lake import Lake
from resources.storage import LakeResource
from tests.fake_kafka import KafkaInMemory


def tick(sensor: dg.SensorDefinition, assets, instance, lake: Lake, kafka=None, cursor=None):
    """Evaluate a sensor as the daemon does."""
    resources = {"lake": LakeResource(uri=lake.uri)}
    if kafka is not None:
        resources["kafka"] = KafkaInMemory.over(kafka)
    definitions = dg.Definitions(assets=assets, sensors=[sensor], resources=resources)
    context = dg.build_sensor_context(instance, cursor, definitions=definitions, resources=resources)
    return sensor.evaluate_tick(context)
