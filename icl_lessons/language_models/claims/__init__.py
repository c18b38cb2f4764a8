"""What the papers of this room assert, each with a check: one module for each idea."""
