"""The demo: a real Kafka on one machine, the life of a shop, and what must come of it."""
