"""What answers requests to a model: base.py says what an engine is; local/, openai.py are engines."""
