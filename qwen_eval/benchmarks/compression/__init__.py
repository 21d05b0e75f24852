"""How few tokens a tokenizer needs: texts per language, tokenizers, and the figures that compare them."""
