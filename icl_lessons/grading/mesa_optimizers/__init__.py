"""Visible checks of assignment 6, *Mesa-optimisers and safety*.

As in the other assignments, a check asks the theory and never a reference solution: least squares
with the prior as rows of the data, sums written out as loops over tokens, the derivative that
autograd finds, closed forms of label influences. The values that known mistakes would give come
from the same sums with one thing changed.
"""

from icl_lessons.grading.mesa_optimizers.detector import check_detect_objective
from icl_lessons.grading.mesa_optimizers.fine_tuning import print_fine_tuning
from icl_lessons.grading.mesa_optimizers.hijacking import check_hijack
from icl_lessons.grading.mesa_optimizers.overlapping import check_early_ascent
from icl_lessons.grading.mesa_optimizers.preconditioner import check_implied_preconditioner
from icl_lessons.grading.mesa_optimizers.sequence_layers import (
    check_mesa_layer,
    check_next_step_weights,
)
from icl_lessons.grading.mesa_optimizers.surgery import check_surgery

__all__ = [
    "check_detect_objective",
    "check_early_ascent",
    "check_hijack",
    "check_implied_preconditioner",
    "check_mesa_layer",
    "check_next_step_weights",
    "check_surgery",
    "print_fine_tuning",
]
