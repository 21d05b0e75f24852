"""The Hugging Face agent benchmark: a model solves small tasks by writing Python over 14 tools, which are simulated.

Its harness (`transformers.tools.evaluate_agent`, 2023) is no longer in transformers; here it runs on smolagents'
restricted Python interpreter. `tasks.py`: the tasks and the prompts; `interpreter.py`: running a reply's code;
`scoring.py`: the three figures; `benchmark.py`: a run from the flags to the table.
"""
