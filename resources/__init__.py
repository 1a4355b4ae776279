"""The connections: Kafka, the lake, dbt, the contracts' folder, the settings."""
