"""How the functions of a topology are called: with which context, and what they may return."""
