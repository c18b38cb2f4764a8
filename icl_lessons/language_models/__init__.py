"""Do the hypotheses hold in language models: pretrained on text alone, asked with prompts."""
