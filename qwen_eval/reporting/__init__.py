"""From finished items to what people read: samples.jsonl, the reported figures, verdicts, tables, plots."""
