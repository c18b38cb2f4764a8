"""The terms of Hubinger et al. as data: what each means, and where a small model measures it.

Definitions are in the course's words. The sections are named from memory of the paper
[hubinger2019risks] and may be off by one. What is measured are in-context learners whose inner
objective can be written down; they have no goals, plans or models of their training, and where a
term needs those, the entry says so and names no measurement.
"""

from dataclasses import dataclass

SECTIONS_FROM_MEMORY = True  # the sections below were not looked up again


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term.

    Attributes:
        name: as the course spells it.
        means: a definition in the course's words.
        section: of the paper, from memory.
        experiment: in which a small model shows it; ``None`` where none does.
        claims: ids of the claims that rest on it.
        limit: what the toy leaves out, or, without an experiment, why no toy here shows the term.
    """

    name: str
    means: str
    section: str
    experiment: str | None
    claims: tuple[str, ...]
    limit: str

    def __post_init__(self):
        if not self.limit:
            raise ValueError(f"limit: say what the measurement of {self.name!r} leaves out")
        if (self.experiment is None) != (not self.claims):
            raise ValueError(f"claims: {self.name!r} needs both an experiment and claims, or none")


TERMS = (
    Term(
        name="optimiser",
        means="A system that searches among candidates for one that scores well on an objective "
        "it represents inside.",
        section="1",
        experiment="goal_misgeneralization",
        claims=("hubinger2019-optimizer-or-rule", "survey-inner-objective-from-labels"),
        limit="An inner learner follows the slope of a loss on its context. Whether a few such "
        "steps are a search is a matter of words; that the labels of the context steer the "
        "answer through a metric is a measurement.",
    ),
    Term(
        name="base optimiser and base objective",
        means="The process of training, and the loss by which it selects weights.",
        section="1",
        experiment="outer_and_inner",
        claims=("hubinger2019-outer-misalignment",),
        limit="Here a closed-form fit or Adam, and a squared error at the query.",
    ),
    Term(
        name="mesa-optimiser and mesa-objective",
        means="A trained model that is itself an optimiser, and the objective that it uses.",
        section="1",
        experiment="goal_misgeneralization",
        claims=("survey-inner-objective-from-labels", "hubinger2019-cue-in-inner-objective"),
        limit="The mesa-objective of one linear attention layer is a weighted squared error on "
        "its context and lives for one prompt.",
    ),
    Term(
        name="outer alignment",
        means="The base objective asks for what the designers want.",
        section="1",
        experiment="outer_and_inner",
        claims=("hubinger2019-outer-misalignment", "hubinger2019-data-repair-inner-alone"),
        limit="What is wanted is a number that can be written down; for people's wishes it cannot.",
    ),
    Term(
        name="inner alignment",
        means="The mesa-objective agrees with the base objective, on training data and beyond.",
        section="1",
        experiment="outer_and_inner",
        claims=("hubinger2019-inner-misalignment", "hubinger2019-data-repair-inner-alone"),
        limit="The data that part the two objectives are known in advance here.",
    ),
    Term(
        name="proxy alignment",
        means="The mesa-objective is something that goes along with the base objective in "
        "training.",
        section="3",
        experiment="goal_misgeneralization",
        claims=(
            "hubinger2019-cue-in-inner-objective",
            "hubinger2019-proxy-fails-in-prompt",
            "hubinger2019-telling-data-repairs",
            "hubinger2019-same-data-two-failures",
        ),
        limit="The cue is a side effect of the target; a proxy that is a means to the target has "
        "no toy here.",
    ),
    Term(
        name="approximate alignment",
        means="The mesa-objective is the base objective as well as the model can represent it.",
        section="3",
        experiment="approximate_alignment",
        claims=("hubinger2019-approximate-alignment", "hubinger2019-rank-blindness"),
        limit="The limit is the rank of one matrix.",
    ),
    Term(
        name="suboptimality alignment",
        means="A shortcoming of the mesa-optimiser, such as little compute, makes a misaligned "
        "mesa-objective look aligned.",
        section="3",
        experiment="suboptimality_alignment",
        claims=(
            "hubinger2019-suboptimality-alignment",
            "hubinger2019-better-inside-worse-outside",
        ),
        limit="More compute means more steps of the same descent, not better plans.",
    ),
    Term(
        name="deceptive alignment",
        means="The mesa-optimiser knows that it is being selected, and serves the base objective "
        "in order not to be changed.",
        section="4",
        experiment=None,
        claims=(),
        limit="No toy here shows this: it needs a model of training inside the model, and an "
        "in-context regressor has neither a place for one nor a use for it.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One of the three conditions of deceptive alignment, held against the course's learners.

    Attributes:
        needs: what the condition asks of a mesa-optimiser.
        met: whether the in-context learners of the course meet it.
        because: why, or why not.
    """

    needs: str
    met: bool
    because: str


DECEPTION = (
    Condition(
        needs="Its objective reaches across updates of its weights.",
        met=False,
        because="The inner objective is the squared error on one context. It is built when the "
        "context is read, is gone after the answer, and holds no term of any other prompt.",
    ),
    Condition(
        needs="It can model that it is being selected, and for what.",
        met=False,
        because="Its only input is a list of numbers, x and y. Nothing in them says whether an "
        "update follows, and nothing in its tokens could hold the answer.",
    ),
    Condition(
        needs="It expects the threat of modification to end.",
        met=False,
        because="It has no notion of training, so none of its end. A model that behaves "
        "otherwise after training does so here because the law of the prompts differs, which "
        "is misgeneralisation.",
    ),
)


def term(name: str) -> Term:
    """The term of that name.

    Raises:
        ValueError: no such term; the message lists those there are.
    """
    for one in TERMS:
        if one.name == name:
            return one
    raise ValueError(f"name: got {name!r}; use one of {', '.join(repr(t.name) for t in TERMS)}")


def terms_table() -> str:
    """The terms as a Markdown table: what each means, and where it is measured."""
    rows = ["| term | in the course's words | measured in | limit |", "|---|---|---|---|"]
    for one in TERMS:
        where = f"`{one.experiment}`" if one.experiment else "no toy here"
        rows.append(f"| {one.name} | {one.means} | {where} | {one.limit} |")
    return "\n".join(rows)


def deception_table() -> str:
    """The three conditions of deceptive alignment as a Markdown table."""
    rows = ["| condition | met by our learners | because |", "|---|---|---|"]
    rows += [f"| {c.needs} | {'yes' if c.met else 'no'} | {c.because} |" for c in DECEPTION]
    return "\n".join(rows)
