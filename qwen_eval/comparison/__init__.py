"""`compare.py`: is one run worse than another? Exact tests on the items that both have, and what CI makes of them."""
