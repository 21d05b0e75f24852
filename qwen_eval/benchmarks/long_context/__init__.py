"""The parts of evaluate_ppl.py: configurations, documents, the needle in a haystack."""
