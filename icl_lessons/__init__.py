"""How do transformers learn in context? Every claim, runnable."""
