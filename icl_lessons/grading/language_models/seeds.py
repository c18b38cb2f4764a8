"""One number for each of CourseLM's seeds, in a sentence."""


def each(values: list[float], form: str = ".2f") -> str:
    """The numbers with an "and" before the last."""
    *most, last = (format(value, form) for value in values)
    return f"{', '.join(most)} and {last}"
