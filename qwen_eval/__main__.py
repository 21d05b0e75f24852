"""`python -m qwen_eval NAME ...` is `qwen-eval NAME ...`."""

from qwen_eval.command import main

main()
