"""The parts of evaluate_speed.py: what is timed, the device's own limit, and processes that take turns."""
