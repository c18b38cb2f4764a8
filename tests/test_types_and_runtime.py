"""The batch, the protocols, devices, seeds, provenance, and the sentences of bad input."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from icl_lessons.runtime import (
    Scale,
    check_choice,
    check_context,
    check_integer,
    check_number,
    check_tensor,
    device,
    inside_transform,
    one_thread,
    provenance,
    seeded,
    trusted_inputs,
)
from icl_lessons.types import Batch, Learner

BATCH, N, D, M, N_QUERY = 2, 6, 3, 4, 5


def context(dtype=torch.float64):
    gen = torch.Generator().manual_seed(0)
    shapes = (BATCH, N, D), (BATCH, N, M), (BATCH, N_QUERY, D)
    return {
        name: torch.randn(*shape, generator=gen, dtype=dtype)
        for name, shape in zip(("xs", "ys", "x_query"), shapes, strict=True)
    }


# --- types --------------------------------------------------------------------------------------


def test_a_batch_knows_its_context_and_moves_as_one():
    parts = context()
    batch = Batch(**parts, y_query=torch.ones(BATCH, N_QUERY, M, dtype=torch.float64))
    assert len(batch) == BATCH
    assert all(a is b for a, b in zip(batch.context, parts.values(), strict=True))
    single = batch.to(torch.float32)
    assert {single.xs.dtype, single.ys.dtype, single.x_query.dtype} == {torch.float32}
    assert single.y_query.dtype == torch.float32 and single.weights is None
    assert batch.xs.dtype == torch.float64
    assert torch.equal(single.xs, batch.xs.float())
    meta = Batch(*vars(batch).values()).to("meta")
    assert meta.x_query.device.type == "meta"


def test_a_function_is_a_learner():
    assert isinstance(lambda xs, ys, x_query: x_query, Learner)
    assert not isinstance("ridge", Learner)


# --- devices, seeds, provenance -----------------------------------------------------------------


def test_the_device_is_the_named_one_or_the_environment_s(monkeypatch):
    monkeypatch.delenv("ICL_LESSONS_DEVICE", raising=False)
    assert device() == torch.device("cpu")
    assert device("cpu") == torch.device("cpu")
    monkeypatch.setenv("ICL_LESSONS_DEVICE", "auto")
    assert device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv("ICL_LESSONS_DEVICE", "toaster")
    with pytest.raises(ValueError, match="device: 'toaster' is not a device; use 'cpu', 'cuda'"):
        device()
    assert device("cpu") == torch.device("cpu")  # a name wins over the environment


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="device: 'cuda' was asked for, but torch finds no GPU"):
        device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device("auto") == torch.device("cuda")
    assert device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ValueError, match=r"device: 'cuda:1' was asked for, but torch finds 1 GPU"):
        device("cuda:1")


def test_a_seed_means_the_same_numbers():
    draws = [torch.rand(3, generator=seeded(seed)) for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert seeded(0).device.type == "cpu"


@pytest.mark.parametrize("seed", [-1, 1.0, True, "7", None])
def test_a_bad_seed_is_refused(as_readers_run_it, seed):
    with pytest.raises(ValueError, match="seed: .* is not a seed; use an integer of 0 or more"):
        seeded(seed)


def test_one_thread_is_restored_even_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError), one_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_provenance_is_plain_text_without_a_place():
    record = provenance()
    assert set(record) == {"icl_lessons", "torch", "python", "device", "date"}
    assert json.loads(json.dumps(record)) == record
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", record["date"])
    assert record["device"].startswith("cpu (")
    assert torch.__version__.startswith(record["torch"]) and "+" not in record["torch"]
    assert "/" not in "".join(record.values())


def test_scales_are_their_names():
    assert [str(scale) for scale in Scale] == ["lesson", "paper"]
    assert Scale("paper") is Scale.PAPER
    assert f"{Scale.LESSON}.json" == "lesson.json"


def test_importing_the_package_draws_and_imports_little():
    """No random number, no plotting, no notebook machinery at import: a page starts fast."""
    code = (
        "import sys, torch; state = torch.get_rng_state(); import icl_lessons.runtime, "
        "icl_lessons.types, icl_lessons.gradient_descent.one_step; "
        "assert torch.equal(state, torch.get_rng_state()); "
        "print(*{'matplotlib', 'IPython', 'anywidget', 'typer'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


# --- checks of inputs ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2, 3, 10**12])
def test_integers_in_range_pass(value):
    check_integer("steps", value, at_least=2)


@pytest.mark.parametrize("value", [1, 2.0, True, "3", None, np.float64(3)])
def test_other_integers_are_refused(as_readers_run_it, value):
    with pytest.raises(ValueError, match="steps: got .*; use an integer of 2 or more"):
        check_integer("steps", value, at_least=2)


def test_numbers_in_range_pass(as_readers_run_it):
    for value in (0, 0.0, 2, 1e-300, np.float64(0.5)):
        check_number("size", value)
    check_number("size", 1e-300, positive=True)


@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf"), True, "1", None])
def test_other_numbers_are_refused(as_readers_run_it, value):
    with pytest.raises(ValueError, match="size: got .*; use a finite number of 0 or more"):
        check_number("size", value)


def test_zero_is_refused_where_a_positive_number_is_asked_for():
    with pytest.raises(ValueError, match="size: got 0.0; use a finite number greater than 0"):
        check_number("size", 0.0, positive=True)


def test_a_choice_lists_what_there_is():
    check_choice("kind", "linear", ("linear", "softmax"))
    with pytest.raises(ValueError, match="kind: got 'cubic'; use one of 'linear', 'softmax'"):
        check_choice("kind", "cubic", ("linear", "softmax"))


@pytest.mark.parametrize(
    "value, error, sentence",
    [
        ([[0.0]], TypeError, r"xs: got list; use a tensor of shape \[batch d\]"),
        (np.zeros((2, 3)), TypeError, "xs: got ndarray"),
        (torch.zeros(3), ValueError, r"xs: got shape \(3,\); use \[batch d\]"),
        (torch.zeros(2, 3).int(), TypeError, "xs: got dtype torch.int32; use float32 or float64"),
        (torch.tensor([[1.0, torch.nan]]), ValueError, "xs: holds NaN or infinite values"),
        (torch.tensor([[1.0, -torch.inf]]), ValueError, "xs: holds NaN or infinite values"),
        (torch.tensor([[torch.inf, -torch.inf]]), ValueError, "xs: holds NaN or infinite values"),
    ],
)
def test_a_tensor_is_checked(as_readers_run_it, value, error, sentence):
    with pytest.raises(error, match=sentence):
        check_tensor("xs", value, "batch d")


def test_large_finite_entries_whose_sum_overflows_pass():
    check_tensor("xs", torch.full((2, 3), 3e38), "batch d")
    check_tensor("xs", torch.zeros(0, 3), "batch d")


def test_a_trusted_loop_is_not_searched_for_nan():
    bad = torch.full((2, 3), torch.nan)
    with trusted_inputs():
        check_tensor("xs", bad, "batch d")
        with pytest.raises(ValueError, match="xs: got shape"):
            check_tensor("xs", bad, "batch n d")
    with pytest.raises(ValueError, match="xs: holds NaN"):
        check_tensor("xs", bad, "batch d")


def test_checks_do_not_stand_in_the_way_of_vmap():
    seen = []

    def one(x):
        seen.append(inside_transform(x))
        check_tensor("xs", x, "n d")
        return x.sum()

    assert torch.func.vmap(one)(torch.ones(4, 2, 3)).tolist() == [6.0] * 4
    assert seen == [True] and not inside_transform(torch.ones(2))


def zeros(*shape, **options):
    return torch.zeros(*shape, dtype=torch.float64, **options)


def test_a_good_context_passes():
    check_context(**context())
    check_context(
        **{name: part for name, part in context(torch.float32).items() if name != "x_query"}
    )


@pytest.mark.parametrize(
    "change, error, sentence",
    [
        ({"xs": torch.zeros(6, 3)}, ValueError, r"xs: got shape .* \[batch n_context d\]"),
        ({"ys": torch.zeros(2, 6)}, ValueError, r"ys: got shape .* \[batch n_context m\]"),
        ({"x_query": torch.zeros(2, 3)}, ValueError, r"x_query: got shape .*\[batch n_query d\]"),
        ({"ys": torch.zeros(2, 6, 4)}, TypeError, "ys: dtype torch.float32 differs"),
        ({"x_query": torch.zeros(2, 5, 3)}, TypeError, "x_query: dtype torch.float32 differs"),
        ({"ys": zeros(2, 6, 4, device="meta")}, ValueError, "ys: on meta, but xs is"),
        ({"ys": zeros(3, 6, 4)}, ValueError, "ys: batch of 3, but xs has a"),
        ({"x_query": zeros(1, 5, 3)}, ValueError, "x_query: batch of 1"),
        ({"ys": zeros(2, 5, 4)}, ValueError, "ys: 5 targets for the 6 inputs of xs"),
        ({"x_query": zeros(2, 5, 4)}, ValueError, "x_query: inputs of 4 coordinates"),
        ({"x_query": torch.full((2, 5, 3), torch.nan).double()}, ValueError, "x_query: holds NaN"),
    ],
)  # fmt: skip
def test_a_bad_context_is_told_what_is_allowed(as_readers_run_it, change, error, sentence):
    with pytest.raises(error, match=sentence):
        check_context(**(context() | change))


def test_an_empty_context_is_a_lesson():
    parts = context()
    with pytest.raises(ValueError) as caught:
        check_context(parts["xs"][:, :0], parts["ys"][:, :0], parts["x_query"])
    for words in ("xs: the context is empty (N = 0)", "1/(2N)", "no gradient", "at least one"):
        assert words in str(caught.value)
