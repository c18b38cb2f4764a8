"""Small steps between nbgrader's own: on the way to a release, and on the way to a score."""

from __future__ import annotations

from nbgrader import utils
from nbgrader.preprocessors import NbGraderPreprocessor

SOLUTION_ONLY = "solution-only"


class RemoveSolutionOnlyCells(NbGraderPreprocessor):
    """Leave the cells tagged ``solution-only`` (the explanations) out of the release."""

    def preprocess(self, nb, resources):
        nb.cells = [c for c in nb.cells if SOLUTION_ONLY not in c.metadata.get("tags", [])]
        return nb, resources


class ScoreErrorsOnly(NbGraderPreprocessor):
    """Make the score of a test cell depend on one thing: whether it raised an error.

    nbgrader gives 0 for any line on the standard error, so that a warning from a library costs an
    honest student everything, and takes a displayed number for a partial score, so that an answer
    could display its own. Neither is meant here.
    """

    def preprocess_cell(self, cell, resources, cell_index):
        if utils.is_grade(cell) and cell.cell_type == "code":
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.name = "stdout"
                elif output.output_type == "execute_result":
                    output.output_type = "display_data"
                    output.pop("execution_count", None)
        return cell, resources
