"""How an answer is checked.

``checks``, ``sums`` and the package of each assignment run inside a student's notebook and need
torch alone. ``sandbox``, ``audit``, ``feedback``, ``samples`` and ``commands`` run on the
instructor's side and need nbgrader (the ``grading`` extra). Nothing here imports them, so that a
notebook starts fast.
"""
