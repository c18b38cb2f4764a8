"""The textbook algorithms that the context could be given to instead."""
