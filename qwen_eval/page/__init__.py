"""The HTML report (eval/report.py): what result folders hold, as one page that opens from disk without a network."""
