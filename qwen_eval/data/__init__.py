"""Where data comes from (sources), how each format is read (readers), the items of a benchmark (items)."""
