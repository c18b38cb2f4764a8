"""What reads the context: attention layers, token layouts, the transformer."""
