"""Visible checks of assignment 8, *Language models and descent*.

As in the other assignments, a check asks the theory and never a reference solution: tokens ranked
by sorting a list, gradients written out by hand where autograd is the usual way, and found by
autograd where a formula is. The values that known mistakes would give come from the same sums with
one thing changed. Where a check passes, the learner's own function is used on
CourseLM, by what the notebook hands in as ``course``:
:mod:`icl_lessons.language_models.course_answers`.
"""

from icl_lessons.grading.language_models.accounts import check_best_account
from icl_lessons.grading.language_models.layers import check_layer_causal
from icl_lessons.grading.language_models.losses import check_label_loss
from icl_lessons.grading.language_models.overlap import check_overlap_cosine, check_token_overlap
from icl_lessons.grading.language_models.sensitivity import check_order_sensitivity
from icl_lessons.grading.language_models.steps import check_steps
from icl_lessons.grading.language_models.theorem import check_theorem_gap

__all__ = [
    "check_best_account",
    "check_label_loss",
    "check_layer_causal",
    "check_order_sensitivity",
    "check_overlap_cosine",
    "check_steps",
    "check_theorem_gap",
    "check_token_overlap",
]
