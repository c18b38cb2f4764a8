"""nbgrader's configuration: ``solutions/`` is the source, ``exercises/`` the release made from it.

``python tools/grade.py release`` and ``python tools/grade.py grade`` use it, and so do the commands
``nbgrader ...`` and the formgrader, run in this folder with the environment's ``bin`` on the path.
"""

import os
from pathlib import Path

from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.preprocessors import Execute, SaveAutoGrades

import icl_lessons
from icl_lessons.grading.feedback import FeedbackExporter
from icl_lessons.grading.preprocessors import RemoveSolutionOnlyCells, ScoreErrorsOnly
from icl_lessons.grading.sandbox import SandboxExecute, SandboxKernelManager

root = Path(__file__).resolve().parent

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "icl-lessons"
c.CourseDirectory.root = str(root)
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
c.CourseDirectory.feedback_directory = "grading/feedback"
c.CourseDirectory.db_url = f"sqlite:///{root}/grading/gradebook.db"

# release: the explanations of the solutions stay behind
c.GenerateAssignment.create_assignment = True
c.GenerateAssignment.preprocessors = [
    RemoveSolutionOnlyCells,
    *GenerateAssignment.preprocessors.default(),
]
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}
c.ClearSolutions.text_stub = "YOUR ANSWER HERE"

# autograde: in the sandbox, unless ICL_LESSONS_SANDBOX=off says that every submission is trusted
steps = Autograde.autograde_preprocessors.default()
steps.insert(steps.index(SaveAutoGrades), ScoreErrorsOnly)
if os.environ.get("ICL_LESSONS_SANDBOX", "on") != "off":
    # the package's folder and nothing above it: an editable install lies beside the solutions
    SandboxKernelManager.read_only = (str(Path(icl_lessons.__file__).resolve().parent),)
    steps = [SandboxExecute if step is Execute else step for step in steps]
c.Autograde.autograde_preprocessors = steps
for section in (c.Execute, c.SandboxExecute):
    section.timeout = int(os.environ.get("ICL_LESSONS_CELL_TIMEOUT", "20"))  # seconds a cell
    section.kernel_name = "python3"  # not the submission's choice

# feedback: without the hidden tests, and without a fetch from any other host
c.GenerateFeedback.exporter_class = FeedbackExporter
