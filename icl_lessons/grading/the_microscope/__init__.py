"""Visible checks of assignment 1, *The microscope*.

Each check asks the theory, never a reference solution: sums written out as loops over tokens,
properties that only the right matrix has, the derivative that autograd finds. The values that
known mistakes would give come from the same loops with one thing changed.

Reading this module tells you how you are checked. It does not contain an answer in the form the
exercises ask for.
"""

from icl_lessons.grading.the_microscope.agreement import check_agreement
from icl_lessons.grading.the_microscope.attention import check_linear_self_attention
from icl_lessons.grading.the_microscope.proposition import (
    check_construction,
    check_repaired_step,
    check_write_tokens,
)
from icl_lessons.grading.the_microscope.regression import check_gradient_descent, check_hat_matrix

__all__ = [
    "check_agreement",
    "check_construction",
    "check_gradient_descent",
    "check_hat_matrix",
    "check_linear_self_attention",
    "check_repaired_step",
    "check_write_tokens",
]
