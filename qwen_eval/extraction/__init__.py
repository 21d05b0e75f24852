"""How an answer is read from a reply: letters, numbers, formulas, code blocks, ReAct calls."""
