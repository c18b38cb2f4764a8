"""Visible checks of assignment 4, *Attention as descent*.

As in assignment 1, a check asks the theory and never a reference solution: the derivative that
autograd finds, sums written out as loops over tokens, moments of a Gaussian, closed forms in the
eigenbasis. The values that known mistakes would give come from the same sums with one thing
changed.
"""

from icl_lessons.grading.attention_as_descent.copying import check_copy_layer
from icl_lessons.grading.attention_as_descent.curvature import check_newton, check_plus_plus
from icl_lessons.grading.attention_as_descent.descent import (
    check_descend_tokens,
    check_preconditioned_layer,
)
from icl_lessons.grading.attention_as_descent.functional import (
    check_functional_descent,
    check_softmax_regression_gradient,
)
from icl_lessons.grading.attention_as_descent.population import check_optimal_preconditioner
from icl_lessons.grading.attention_as_descent.read_outs import print_read_outs

__all__ = [
    "check_copy_layer",
    "check_descend_tokens",
    "check_functional_descent",
    "check_newton",
    "check_optimal_preconditioner",
    "check_plus_plus",
    "check_preconditioned_layer",
    "check_softmax_regression_gradient",
    "print_read_outs",
]
