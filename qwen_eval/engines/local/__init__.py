"""The local engine: transformers with qwen_model, prefixes shared, prompts packed. engine.py is the way in."""
