"""Attribute text: its documents and prompts against their own law, and the filter of its modes."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.mode_filter import filtered_modes
from icl_lessons.runtime import seeded
from icl_lessons.tasks.attribute_prompts import MAPPINGS, attribute_prompts
from icl_lessons.tasks.attribute_text import (
    ATTRIBUTES,
    BEGIN,
    CANONICAL,
    CONTRARY,
    FIRST_A,
    FIRST_B,
    FIRST_CODE,
    FIRST_FILLER,
    FIRST_LABEL,
    FIRST_NOUN,
    FIRST_PREDICATE,
    INCOHERENT,
    NAMES,
    PLAIN,
    SEPARATORS,
    VOCABULARY,
    AttributeText,
    attribute_named,
    words,
)


@pytest.fixture(scope="module")
def documents():
    return AttributeText().sample(4000, 64, generator=seeded(1))


def sentences_of(tokens):
    """Each sentence that is complete, as (noun, predicate, label or None, A or None, B)."""
    found, current = [], []
    for token in tokens.tolist()[1:]:
        current.append(token)
        if FIRST_B <= token < FIRST_NOUN:
            rest = [t for t in current if t < FIRST_FILLER]
            label, a = (rest[3], rest[2]) if len(rest) == 5 else (None, None)
            found.append((rest[0], rest[1], label, a, rest[-1]))
            current = []
    return found


def values_of(noun, predicate):
    """Topic, stance, mood and kind, from the words alone."""
    n, p = (noun - FIRST_NOUN) // 2, (predicate - FIRST_PREDICATE) // 3
    return n // 2, p // 2, p % 2, n % 2


def close_to(share, probability, count):
    """Within four standard errors of a share."""
    return abs(share - probability) < 4 * (probability * (1 - probability) / count) ** 0.5


# --- documents ------------------------------------------------------------------------------------


def test_every_document_is_made_of_sentences(documents):
    for tokens in documents.tokens[:300]:
        assert tokens[0] == BEGIN
        for noun, predicate, label, a, b in sentences_of(tokens):
            assert FIRST_NOUN <= noun < FIRST_PREDICATE <= predicate < FIRST_LABEL
            assert FIRST_B <= b < FIRST_NOUN
            if label is not None:
                assert FIRST_A <= a < FIRST_B and FIRST_LABEL <= label < FIRST_FILLER


def test_a_document_keeps_its_separators_and_never_uses_those_of_prompts(documents):
    pairs = set()
    for tokens in documents.tokens:
        found = {(a, b) for _, _, _, a, b in sentences_of(tokens) if a is not None}
        assert len(found) <= 1
        pairs |= found
    assert len(pairs) == SEPARATORS * (SEPARATORS - 1)
    prompts = attribute_prompts("topic", 1, 200, generator=seeded(0))
    kept = {tuple(pair) for pair in prompts.separators.tolist()}
    assert len(kept) == SEPARATORS and not kept & pairs


def test_shares_are_those_of_the_law(documents):
    task = AttributeText()
    first = documents.kind[:, 1]  # the first sentence of each document: independent draws
    for kind, probability in enumerate(task.kinds):
        assert close_to((first == kind).double().mean().item(), probability, len(first))
    remarked = [s[0][2] is not None for s in map(sentences_of, documents.tokens)]
    expected = (1 - task.plain) * task.remark_probability
    assert close_to(sum(remarked) / len(remarked), expected, len(remarked))


def test_labels_are_right_as_often_as_the_noise_says(documents):
    told = documents.is_label & (documents.kind == CANONICAL)
    right = documents.tokens == documents.gold
    for place, attribute in enumerate(ATTRIBUTES):
        of_it = told & (documents.attribute == place)
        share = right[of_it].double().mean().item()
        expected = 1 - 0.1 * (1 - 1 / attribute.values)
        assert abs(share - expected) < 0.02, attribute.name
    contrary = documents.is_label & (documents.kind == CONTRARY)
    assert right[contrary].double().mean() < 0.06


def test_without_noise_a_canonical_document_says_what_is_so():
    task = AttributeText(noise=0, plain=0, canonical=1, contrary=0, incoherent=0, hazard=0)
    documents = task.sample(50, 40, generator=seeded(3))
    for tokens, attribute in zip(documents.tokens, documents.attribute[:, 1], strict=True):
        names = ATTRIBUTES[attribute].labels
        for noun, predicate, label, _, _ in sentences_of(tokens):
            if label is not None:
                assert label == names[values_of(noun, predicate)[attribute]]


def test_the_mode_changes_at_the_rate_of_the_hazard():
    task = AttributeText(hazard=0.3)
    documents = task.sample(3000, 64, generator=seeded(4))
    b = (documents.tokens >= FIRST_B) & (documents.tokens < FIRST_NOUN)
    # Attribute and kind at the first token after each sentence's end, beside those before it.
    before, after = b[:, :-1], documents.kind[:, 1:]
    same = (after == documents.kind[:, :-1]) & (
        documents.attribute[:, 1:] == documents.attribute[:, :-1]
    )
    coherent = before & (documents.kind[:, :-1] == CANONICAL)
    expected = 1 - 0.3 * (1 - task.canonical / 4)
    assert abs(same[coherent].double().mean().item() - expected) < 0.02
    never = AttributeText(hazard=0).sample(200, 64, generator=seeded(5))
    assert (never.kind == never.kind[:, 1:2])[:, 1:].all()
    assert {PLAIN, INCOHERENT} < set(never.kind[:, 1].tolist())


def test_the_same_seed_writes_the_same_text_and_another_seed_another():
    first, again, other = (
        AttributeText().sample(3, 20, generator=seeded(s)).tokens for s in (7, 7, 8)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


# --- prompts --------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 6), st.sampled_from(["held_out", "seen"]))
def test_a_prompt_is_what_its_parts_say(name, n, separators):
    prompts = attribute_prompts(name, n, 5, generator=seeded(n), separators=separators)
    assert prompts.tokens.shape == (5, 5 * n + 4) and prompts.n == n
    place, attribute = NAMES.index(name), attribute_named(name)
    for row, tokens in enumerate(prompts.tokens.tolist()):
        assert tokens[0] == BEGIN and tokens[-1] == prompts.separators[row, 0]
        assert tokens[-3:-1] == prompts.sentences[row, -1].tolist()
        assert values_of(*tokens[-3:-1]) == tuple(prompts.values[row, -1].tolist())
        assert prompts.answer[row] == attribute.labels[values_of(*tokens[-3:-1])[place]]
        for i in range(n):
            noun, predicate, a, label, b = tokens[1 + 5 * i : 6 + 5 * i]
            assert label == attribute.labels[values_of(noun, predicate)[place]]
            assert [a, b] == prompts.separators[row].tolist()
            assert (b - FIRST_B == a - FIRST_A) == (separators == "held_out")
            demonstration = prompts.demonstration_tokens[row, i].tolist()
            assert demonstration == [BEGIN, noun, predicate, a]
    assert torch.equal(prompts.query_tokens[:, 1:], prompts.tokens[:, -3:])


@pytest.mark.parametrize("mapping", [*MAPPINGS, "code"])
def test_mappings_name_another_value_or_other_words(mapping):
    prompts = attribute_prompts("stance", 4, 30, generator=seeded(2), mapping=mapping)
    value = prompts.values[:, :-1, NAMES.index("stance")]
    if mapping == "code":
        assert (prompts.labels >= FIRST_CODE).all()
        assert torch.equal(prompts.choices.gather(1, value), prompts.labels)
        assert len({tuple(row) for row in prompts.choices.tolist()}) > 10
        assert all(len(set(row)) == 3 for row in prompts.choices.tolist())
    else:
        names = torch.tensor(attribute_named("stance").labels)
        assert torch.equal(prompts.labels, names[(value + MAPPINGS[mapping]) % 3])


def test_reordered_demonstrations_are_the_same_demonstrations():
    prompts = attribute_prompts("mood", 3, 4, generator=seeded(9))
    turned = prompts.in_order([2, 0, 1])
    assert torch.equal(turned.query_tokens, prompts.query_tokens)
    assert torch.equal(turned.labels, prompts.labels[:, [2, 0, 1]])
    assert torch.equal(turned.tokens[:, 1:6], prompts.tokens[:, 11:16])
    assert torch.equal(prompts.in_order([1]).tokens[:, 1:6], prompts.tokens[:, 6:11])
    others = attribute_prompts("mood", 0, 6, generator=seeded(10))
    shared = prompts.with_queries_of(others)
    assert torch.equal(shared.tokens[:, :16], prompts.tokens[:1, :16].expand(6, -1))
    assert torch.equal(shared.sentences[:, -1], others.sentences[:, -1])
    assert torch.equal(shared.answer, others.answer)


def test_text_can_be_read():
    prompts = attribute_prompts("topic", 1, 1, generator=seeded(0))
    text = words(prompts.tokens[0]).split()
    assert text[0] == "<begin>" and len(text) == 9 and set(text) <= set(VOCABULARY)
    assert len(set(VOCABULARY)) == len(VOCABULARY) == AttributeText().vocabulary == 66


# --- the law, and the filter ----------------------------------------------------------------------


def test_the_law_of_labels_is_the_share_in_documents():
    task = AttributeText(hazard=0, contrary=0.5, canonical=0.35)
    documents = task.sample(20_000, 12, generator=seeded(6))
    rows = [(s[0], kind, attribute) for s, kind, attribute in zip(
        map(sentences_of, documents.tokens), documents.kind[:, 1], documents.attribute[:, 1],
        strict=True) if s and s[0][2] is not None]  # fmt: skip
    values = torch.tensor([values_of(s[0], s[1]) for s, _, _ in rows])
    label = torch.tensor([s[2] for s, _, _ in rows])
    mode = torch.tensor([
        {CANONICAL: a, CONTRARY: 4 + a, INCOHERENT: 8}[int(k)] for _, k, a in rows
    ])  # fmt: skip
    shares = torch.bincount(mode, minlength=9).double() / len(mode)
    assert (shares - task.mode_prior).abs().max() < 0.012
    law = task.label_law(values)
    assert_close(law.sum(-1), torch.ones_like(law[..., 0]))
    said = law[torch.arange(len(mode)), mode, label]
    told = law[torch.arange(len(mode)), mode].max(-1).values
    for which in range(9):  # the likeliest label comes as often as its probability says
        here = mode == which
        hit = (said[here] == told[here]).double().mean()
        several = (law[here, which] == told[here, None]).sum(-1)
        assert abs(hit - (told[here] * several).mean()) < 0.06, which


def test_remarks_follow_each_other_with_the_hazard_of_remarks():
    task = AttributeText(hazard=0.4, plain=0.3, canonical=0.6, contrary=0.05, incoherent=0.05)
    documents = task.sample(20_000, 16, generator=seeded(11))
    pairs = [(s[0][2] is not None, s[1][2] is not None, row) for row, s in enumerate(
        map(sentences_of, documents.tokens)) if len(s) >= 2]  # fmt: skip
    both = [row for one, two, row in pairs if one and two]
    first_end = ((documents.tokens >= FIRST_B) & (documents.tokens < FIRST_NOUN)).int().argmax(1)
    second = documents.attribute.gather(1, first_end[:, None] + 1)[:, 0]
    kind = documents.kind.gather(1, first_end[:, None] + 1)[:, 0]
    rows = torch.tensor([row for row in both if documents.kind[row, 1] == CANONICAL])
    same = (second[rows] == documents.attribute[rows, 1]) & (kind[rows] == CANONICAL)
    expected = 1 - task.remark_hazard * (1 - task.mode_prior[0])
    assert abs(same.double().mean() - expected) < 0.02


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(0, 4), st.floats(0, 1), st.integers(0, 99))
def test_the_filter_is_the_sum_over_all_histories(modes, n, hazard, seed):
    generator = seeded(seed)
    prior = torch.rand(modes, generator=generator, dtype=torch.float64) + 0.1
    prior = prior / prior.sum()
    likelihoods = torch.rand(2, n, modes, generator=generator, dtype=torch.float64) + 0.05
    laws = filtered_modes(prior, likelihoods, hazard)
    stay = (1 - hazard) * torch.eye(modes, dtype=torch.float64) + hazard * prior
    for t in range(n + 1):
        weight = torch.zeros(2, modes, dtype=torch.float64)
        for history in itertools.product(range(modes), repeat=t + 1):
            p = prior[history[0]] * torch.ones(2, dtype=torch.float64)
            for i in range(t):
                p = p * likelihoods[:, i, history[i]] * stay[history[i], history[i + 1]]
            weight[:, history[t]] += p
        assert_close(laws[:, t], weight / weight.sum(-1, keepdim=True), rtol=0, atol=1e-12)


def test_without_hazard_the_order_does_not_matter_and_with_it_the_last_counts_most():
    prior = torch.tensor([0.5, 0.5], dtype=torch.float64)
    for_one = torch.tensor([0.9, 0.1], dtype=torch.float64)
    seen = torch.stack([for_one, for_one.flip(0), for_one.flip(0)])[None]
    still, turned = (filtered_modes(prior, s, 0)[0, -1] for s in (seen, seen.flip(1)))
    assert_close(still, turned, rtol=0, atol=1e-14)
    late, early = (filtered_modes(prior, s, 0.2)[0, -1, 0] for s in (seen.flip(1), seen))
    assert late > early + 0.1


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: AttributeText(hazard=1.2), "hazard: got 1.2"),
        (lambda: AttributeText(canonical=0.9), "must sum to 1"),
        (lambda: attribute_named("weather"), "attribute"),
        (lambda: AttributeText().sample(0, 5, generator=seeded(0)), "batch_size"),
        (lambda: AttributeText().sample(1, 1, generator=seeded(0)), "length"),
        (
            lambda: attribute_prompts("mood", 1, 1, generator=seeded(0), mapping="novel"),
            "a novel mapping needs three",
        ),
        (
            lambda: attribute_prompts("mood", 2, 1, generator=seeded(0)).in_order([0, 0]),
            "at most once",
        ),
        (
            lambda: filtered_modes(torch.tensor([0.5, 0.6]), torch.ones(1, 1, 2), 0.1),
            "they must sum to 1",
        ),
        (
            lambda: filtered_modes(torch.tensor([0.5, 0.5]), torch.zeros(1, 1, 2), 0.1),
            "no mode allows observation 0",
        ),
    ],
)
def test_what_cannot_be_is_refused(as_readers_run_it, make, said):
    with pytest.raises(ValueError, match=said):
        make()
