"""Whole tables of the cards: which runs a table needs, how long they take, and the table in the card's layout."""
