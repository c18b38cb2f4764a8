"""What a reader can play with: components that run in the browser, with or without a kernel."""

from icl_lessons.explorables.base import Explorable, InvalidTrait
from icl_lessons.explorables.bowl import QuadraticBowlExplorer
from icl_lessons.explorables.concept_posterior import ConceptPosteriorExplorer
from icl_lessons.explorables.demonstration_order import DemonstrationOrderExplorer
from icl_lessons.explorables.objective_surgery import ObjectiveSurgeryExplorer
from icl_lessons.explorables.one_step import OneStepExplorer
from icl_lessons.explorables.poisoned_context import PoisonedContextExplorer
from icl_lessons.explorables.prediction import Prediction, PredictionReveal
from icl_lessons.explorables.sinusoid import SinusoidExplorer
from icl_lessons.explorables.task_diversity import TaskDiversityExplorer
from icl_lessons.explorables.token_path import TokenPathExplorer
from icl_lessons.explorables.training_plateaus import PlateauExplorer
from icl_lessons.explorables.weight_update import WeightUpdateExplorer

__all__ = [
    "ConceptPosteriorExplorer",
    "DemonstrationOrderExplorer",
    "Explorable",
    "InvalidTrait",
    "ObjectiveSurgeryExplorer",
    "OneStepExplorer",
    "PlateauExplorer",
    "PoisonedContextExplorer",
    "Prediction",
    "PredictionReveal",
    "QuadraticBowlExplorer",
    "SinusoidExplorer",
    "TaskDiversityExplorer",
    "TokenPathExplorer",
    "WeightUpdateExplorer",
]
