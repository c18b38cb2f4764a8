"""Visible checks of assignment 7, *Implicit updates*.

As in the other assignments, a check asks the theory and never a reference solution: a
pseudo-inverse, the recursion that a path has to satisfy, parabolas through three values of an exact
loss, the derivative that autograd finds. The values that known mistakes would give come from the
same sums with one thing changed.
"""

from icl_lessons.grading.implicit_updates.blocks import check_change_block
from icl_lessons.grading.implicit_updates.heads import check_heads
from icl_lessons.grading.implicit_updates.identity_table import print_identity
from icl_lessons.grading.implicit_updates.increments import check_is_it_learning
from icl_lessons.grading.implicit_updates.paths import check_token_path
from icl_lessons.grading.implicit_updates.plateaus import check_plateaus, check_separate_step
from icl_lessons.grading.implicit_updates.rank_one import check_implicit_update, check_joint_update

__all__ = [
    "check_change_block",
    "check_heads",
    "check_implicit_update",
    "check_is_it_learning",
    "check_joint_update",
    "check_plateaus",
    "check_separate_step",
    "check_token_path",
    "print_identity",
]
