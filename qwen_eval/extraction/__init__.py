"""Answer extraction: how a letter, a number, a formula, a program or a ReAct call is found in a model's reply.

Each benchmark has a protocol extraction, which is the published one with its defects and gives the headline figure, and
a robust extraction, which takes what a careful reader would take.
"""
