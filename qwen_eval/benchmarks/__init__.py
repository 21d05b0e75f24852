"""The parts of a benchmark that are too large for its script."""
