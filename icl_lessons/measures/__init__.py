"""How two learners are compared."""
