"""What change records say: the envelopes of Debezium and others, their types, positions and origins."""
