"""The layers: bronze, silver, dimensions, gold, and the checks beside what they check."""
