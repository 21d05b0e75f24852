"""What runs inside the sandbox: standard library only, no import from outside this folder.

The zygote (`warden.py`) is the only process that is started. For each check it forks a warden, which forks the two
guests: the candidate (`candidate.py`, untrusted) and the tester (`tester.py`, the benchmark's own test code). For each
Jupyter kernel it forks a keeper (`keeper.py`), which forks the kernel (`notebook.py`, untrusted).
"""
