"""The parts of evaluate_code_interpreter.py: rounds with a kernel, pictures and their judge, scores."""
