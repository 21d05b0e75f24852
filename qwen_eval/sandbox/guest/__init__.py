"""What runs inside the sandbox: standard library only, no import from outside this folder.

The zygote (`warden.py`) is the only process started; for each check it forks a warden, which forks the two guests:
the candidate (`candidate.py`, untrusted) and the tester (`tester.py`, the benchmark's own test code).
"""
