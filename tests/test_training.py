"""The training loop: the same weights whatever company, interruptions or logging a seed has."""

import dataclasses
import functools
import math
import os

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from icl_lessons.gradient_descent.one_step import LinearSelfAttentionLearner
from icl_lessons.gradient_descent.population_loss import (
    attention_population_loss,
    best_single_step,
)
from icl_lessons.models.attention import SelfAttention
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression, von_oswald_task
from icl_lessons.training import (
    CheckpointError,
    NotFiniteError,
    TrainingConfig,
    prefix_loss,
    query_loss,
    train,
)
from icl_lessons.training.checkpoints import FILE_NAME

D, N = 3, 5
TASK = LinearRegression(d=D)
quiet = functools.partial(train, progress=False)


def linear_layer(generator, d=D, dtype=torch.float64, init_std=0.1):
    layer = SelfAttention(d + 1, init_std=init_std, generator=generator, dtype=dtype)
    return LinearSelfAttentionLearner([layer], d)


def small_transformer(generator, layout="pair", dtype=torch.float64):
    config = TransformerConfig(
        d=D, width=8, layers=2, heads=2, layout=layout, positions="learned", max_context=N + 1
    )
    return Transformer(config, generator=generator).to(dtype)


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{"steps": 12, "batch_size": 8, "n_context": N, **changes})


def assert_same_weights(run, other):
    for name, value in run.state.items():
        assert torch.equal(value, other.state[name]), name
    assert np.array_equal(run.history.loss, other.history.loss)


# --- an ensemble is its members ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "loss"),
    [
        (linear_layer, "query"),
        (small_transformer, "prefixes"),
        (functools.partial(small_transformer, layout="interleaved"), "query"),
    ],
)
def test_a_seed_trains_alike_alone_and_among_others(factory, loss):
    settings = dict(learning_rate=3e-3, clip=0.05, weight_decay=0.01, optimizer="adamw")
    together = quiet(factory, TASK, config(seeds=(4, 0, 7), **settings), loss=loss)
    for index, seed in enumerate((4, 0, 7)):
        alone = quiet(factory, TASK, config(seeds=(seed,), **settings), loss=loss)
        for name, value in alone.state.items():
            assert_close(together.state[name][index], value[0], rtol=1e-9, atol=1e-11)
        assert_close(together.history.loss[:, index], alone.history.loss[:, 0])
    assert together.history.loss[0, 0] != together.history.loss[0, 1]


def test_the_loop_is_the_textbook_loop():
    # The reference shares nothing with the loop but the seed's streams.
    from icl_lessons.training.loop import DATA, START, stream

    settings = config(steps=20, learning_rate=2e-3, clip=0.1, warmup=4, schedule="linear_decay")
    run = quiet(linear_layer, TASK, settings)
    model, generator = linear_layer(stream(0, START)), stream(0, DATA)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    for step in range(20):
        rate = 2e-3 * (1.0 if step < 10 else (20 - step) / 10) * min(1.0, (step + 1) / 4)
        batch = TASK.sample(8, N, generator=generator, dtype=torch.float64)
        loss = (model(*batch.context) - batch.y_query).pow(2).sum(-1).mean() / 2
        assert run.history.loss[step, 0] == pytest.approx(loss.item(), rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    for name, value in model.named_parameters():
        assert_close(run.state[name][0], value.detach(), rtol=1e-6, atol=1e-9)


def test_the_model_of_a_seed_is_a_plain_module_of_its_own():
    run = quiet(small_transformer, TASK, config(seeds=(0, 1)), loss="prefixes")
    first, second = run.models()
    assert type(first) is Transformer and not first.training
    batch = TASK.sample(4, N, generator=seeded(1), dtype=torch.float64)
    assert not torch.equal(first(*batch.context), second(*batch.context))
    with torch.no_grad():
        first.read_in.weight.zero_()
    assert run.model(0).read_in.weight.abs().sum() > 0
    with pytest.raises(ValueError, match="^index: got 2; the run has 2 seeds"):
        run.model(2)


def test_a_module_given_as_start_is_not_changed():
    start = linear_layer(seeded(2))
    before = {name: value.clone() for name, value in start.state_dict().items()}
    run = quiet(start, TASK, config(seeds=(0, 1)))
    assert all(torch.equal(before[name], value) for name, value in start.state_dict().items())
    assert not torch.equal(run.state["layers.0.w_key"][0], run.state["layers.0.w_key"][1])


def test_a_factory_that_forgets_its_generator_is_still_seeded():
    def forgetful(generator):
        return _AffineLearner(nn.Linear(D, 1).double())

    torch.manual_seed(11)
    first = quiet(forgetful, TASK, config(seeds=(0, 1)))
    torch.manual_seed(12)
    assert_same_weights(first, quiet(forgetful, TASK, config(seeds=(0, 1))))
    assert not torch.equal(first.state["affine.weight"][0], first.state["affine.weight"][1])


class _AffineLearner(nn.Module):
    def __init__(self, affine):
        super().__init__()
        self.affine = affine

    def forward(self, xs, ys, x_query):
        return self.affine(x_query)


# --- losses -----------------------------------------------------------------------------------


def test_the_closed_form_reaches_one_step_of_gradient_descent_from_every_seed():
    task = von_oswald_task(10)
    goal = 1.01 * best_single_step(task, 10).loss

    def expected_loss(model):
        layer = model.layers[0]
        return attention_population_loss(
            layer.key_query()[0], layer.projection_value()[0], task, 10
        )

    settings = TrainingConfig(
        steps=300, learning_rate=1e-2, seeds=tuple(range(8)), target_loss=goal
    )
    factory = functools.partial(linear_layer, d=10, dtype=torch.float32, init_std=0.0135)
    run = quiet(factory, None, settings, loss=expected_loss)
    steps = run.history.steps_to(goal)
    assert run.stopped == "target_loss" and steps.max() == run.steps
    assert np.median(steps) <= 90
    # An independent yardstick: fresh contexts, and the best step on these.
    batch = task.sample(20_000, 10, generator=seeded(1))
    direction = (batch.ys * batch.xs).mean(1, keepdim=True) @ batch.x_query.mT
    step = 6.060606 * direction
    best = 0.5 * (step - batch.y_query).square().mean()
    with torch.no_grad():
        trained = 0.5 * (run.model(3)(*batch.context) - batch.y_query).square().mean()
    assert trained / best < 1.03


def test_named_losses_are_what_they_say():
    model = small_transformer(seeded(0))
    batch = LinearRegression(d=D, n_query=2).sample(6, N, generator=seeded(1), dtype=torch.float64)
    error = model(*batch.context) - batch.y_query
    assert_close(query_loss(model, batch), error.pow(2).sum() / (2 * 6 * 2))
    total = 0.0
    targets = torch.cat([batch.ys, batch.y_query[:, :1]], 1)
    inputs = torch.cat([batch.xs, batch.x_query[:, :1]], 1)
    for i in range(1, N + 1):
        prediction = model(inputs[:, :i], targets[:, :i], inputs[:, i : i + 1])
        total += (prediction[:, 0] - targets[:, i]).pow(2).sum()
    # With no example: the answer must not depend on any target.
    first = model.predict_prefixes(inputs, targets * 0)[:, 0]
    total += (first - targets[:, 0]).pow(2).sum()
    assert_close(prefix_loss(model, batch), total / (2 * 6 * (N + 1)))


def test_training_on_prefixes_learns():
    task = LinearRegression(d=2)
    shape = TransformerConfig(d=2, width=16, layers=2, heads=2)
    batch = task.sample(500, 8, generator=seeded(9))
    run = quiet(
        lambda generator: Transformer(shape, generator=generator),
        task,
        TrainingConfig(steps=200, batch_size=32, n_context=8, learning_rate=5e-3),
        loss="prefixes",
        validate=batch,
    )
    assert list(run.history.validation_steps) == [0, 100, 200]
    start, _, end = run.history.validation[:, 0]
    assert end < 0.5 * start


# --- the configuration ------------------------------------------------------------------------


def test_schedules_are_the_curves_they_are_named_for():
    def rates(schedule, steps=10, **changes):
        settings = config(steps=steps, learning_rate=2.0, schedule=schedule, **changes)
        return [settings.learning_rate_at(step) for step in range(steps)]

    assert rates("constant") == [2.0] * 10
    assert rates("linear_decay") == pytest.approx([2.0] * 6 + [1.6, 1.2, 0.8, 0.4])
    assert rates("cosine") == pytest.approx([1 + math.cos(math.pi * t / 10) for t in range(10)])
    assert rates("triangle") == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0, 1.6, 1.2, 0.8, 0.4])
    assert rates("constant", warmup=4)[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


@pytest.mark.usefixtures("as_readers_run_it")
@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (dict(steps=0), "steps"),
        (dict(batch_size=-1), "batch_size"),
        (dict(n_context=0), "n_context"),
        (dict(learning_rate=0.0), "learning_rate"),
        (dict(learning_rate=float("nan")), "learning_rate"),
        (dict(optimizer="sgd"), "optimizer"),
        (dict(schedule="step"), "schedule"),
        (dict(betas=(0.9, 1.0)), "betas"),
        (dict(clip=0.0), "clip"),
        (dict(seeds=()), "seeds"),
        (dict(seeds=(1, 1)), "seeds"),
        (dict(seeds=(-1,)), "seeds"),
        (dict(target_loss=float("inf")), "target_loss"),
        (dict(patience=0), "patience"),
        (dict(warmup=-1), "warmup"),
        (dict(weight_decay=-0.1), "weight_decay"),
        (dict(log_every=0), "log_every"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(changes, names):
    with pytest.raises(ValueError, match=f"^{names}:"):
        config(**changes)


@pytest.mark.usefixtures("as_readers_run_it")
def test_arguments_that_cannot_be_used_are_refused_by_name():
    with pytest.raises(ValueError, match="^loss: got 'mse'; use one of 'query', 'prefixes'"):
        quiet(linear_layer, TASK, config(), loss="mse")
    with pytest.raises(ValueError, match="^loss: without a task"):
        quiet(linear_layer, None, config())
    with pytest.raises(TypeError, match="^task: object has no method sample"):
        quiet(linear_layer, object(), config())
    with pytest.raises(TypeError, match="^model: the factory returned int"):
        quiet(lambda generator: 3, TASK, config())
    with pytest.raises(ValueError, match="no parameter to train"):
        quiet(lambda generator: nn.Identity(), TASK, config())


# --- stopping ---------------------------------------------------------------------------------


def test_patience_counts_looks_without_gain():
    values = iter([3.0, 2.0, 2.5, 2.5, 2.5, 0.0])
    run = quiet(
        linear_layer,
        TASK,
        config(steps=50, validate_every=5, patience=3),
        validate=lambda model: next(values),
    )
    assert (run.stopped, run.steps) == ("patience", 20)
    assert list(run.history.validation[:, 0]) == [3.0, 2.0, 2.5, 2.5, 2.5]


def test_the_target_is_for_every_seed():
    values = iter([0.5, 2.0, 0.5, 0.9])
    settings = config(steps=30, seeds=(0, 1), validate_every=10, target_loss=1.0)
    run = quiet(linear_layer, TASK, settings, validate=lambda model: next(values))
    assert (run.stopped, run.steps) == ("target_loss", 10)
    assert list(run.history.steps_to(1.0)) == [0.0, 10.0]
    assert np.isnan(run.history.steps_to(0.6)[1])


def test_a_loss_that_is_not_finite_names_its_step_and_seed():
    def breaks(model, batch):
        # The second seed's stream is recognised by its data: under vmap no value may be read.
        return query_loss(model, batch) / (model.steps_left.sum() > 0)

    class Fuse(LinearSelfAttentionLearner):
        def __init__(self, generator):
            super().__init__([SelfAttention(D + 1, generator=generator, dtype=torch.float64)], D)
            left = 1.0 if generator.initial_seed() == good else -1.0
            self.register_buffer("steps_left", torch.tensor([left], dtype=torch.float64))

    from icl_lessons.training.loop import START, stream

    good = stream(3, START).initial_seed()
    with pytest.raises(NotFiniteError, match="the loss of seed 8 is inf at step 0 of 12"):
        quiet(Fuse, TASK, config(seeds=(3, 8)), loss=breaks)


def test_divergence_is_found_between_logged_steps():
    with pytest.raises(NotFiniteError, match=r"seed 0 is (nan|inf) at step \d+ of 60; lower the"):
        quiet(
            functools.partial(linear_layer, dtype=torch.float32, init_std=1e4),
            TASK,
            config(steps=60, learning_rate=1e12, log_every=60),
        )


# --- checkpoints ------------------------------------------------------------------------------


class Killed(Exception):
    pass


def killed_at(step, loss):
    """A loss that ends the run like a killed process, after so many calls."""
    calls = iter(range(10**9))

    def fatal(model, batch):
        if next(calls) == step:
            raise Killed
        return loss(model, batch)

    fatal.__module__, fatal.__qualname__ = loss.__module__, loss.__qualname__
    return fatal


@pytest.mark.parametrize("seeds", [(5,), (5, 6, 7)])
@pytest.mark.parametrize("factory", [linear_layer, small_transformer])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, factory, seeds):
    settings = config(
        steps=20, seeds=seeds, checkpoint_every=4, clip=0.1, schedule="cosine", validate_every=3
    )
    batch = TASK.sample(16, N, generator=seeded(1), dtype=torch.float64)
    check = functools.partial(quiet, factory, TASK, settings, validate=batch)
    whole = check(loss=query_loss)
    # Validation calls the loss too, so runs die at different steps: before, at and after a save.
    for death in (1, 9, 14):
        folder = tmp_path / str(death)
        with pytest.raises(Killed):
            check(loss=killed_at(death, query_loss), checkpoint_dir=folder)
        resumed = check(loss=query_loss, checkpoint_dir=folder)
        assert_same_weights(whole, resumed)
        assert np.array_equal(whole.history.validation, resumed.history.validation)
        assert np.array_equal(whole.history.validation_steps, resumed.history.validation_steps)
    assert (tmp_path / "14" / FILE_NAME).exists()
    # Resuming a finished run trains no more.
    again = check(loss=killed_at(0, query_loss), checkpoint_dir=tmp_path / "14")
    assert_same_weights(whole, again)


def test_the_start_of_a_run_resumes_too(tmp_path):
    with pytest.raises(Killed):
        quiet(
            linear_layer,
            TASK,
            config(checkpoint_every=2),
            loss=killed_at(5, query_loss),
            checkpoint_dir=tmp_path,
        )
    stored = torch.load(tmp_path / FILE_NAME, weights_only=True)
    assert stored["step"] == 4  # so that the resumed run did begin in the middle
    assert set(stored["versions"]) == {"icl_lessons", "torch"}
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    settings = config(checkpoint_every=4)
    with pytest.raises(Killed):
        quiet(linear_layer, TASK, settings, loss=killed_at(5, query_loss), checkpoint_dir=tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()

    def half(payload, file):
        file.write(b"half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", half)
        with pytest.raises(OSError, match="no space"):
            quiet(linear_layer, TASK, settings, loss=query_loss, checkpoint_dir=tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert os.listdir(tmp_path) == [FILE_NAME]
    whole = quiet(linear_layer, TASK, settings)
    assert_same_weights(whole, quiet(linear_layer, TASK, settings, checkpoint_dir=tmp_path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(config=dict(learning_rate=0.5)), "learning_rate was 0.001, now 0.5"),
        (dict(config=dict(seeds=(1,))), r"seeds was \[0\], now \[1\]"),
        (dict(task=LinearRegression(d=D, noise_std=0.1)), "task was .LinearRegression"),
        (dict(loss=prefix_loss), "loss was .icl_lessons.training.objectives.query_loss"),
        (dict(model=functools.partial(linear_layer, init_std=0.2)), "start was"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_difference(tmp_path, change, says):
    settings = config(steps=4)
    quiet(linear_layer, TASK, settings, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match=f"belongs to another run: .*{says}"):
        quiet(
            change.get("model", linear_layer),
            change.get("task", TASK),
            dataclasses.replace(settings, **change.get("config", {})),
            loss=change.get("loss"),
            checkpoint_dir=tmp_path,
        )


def test_how_often_a_checkpoint_is_written_may_change(tmp_path):
    quiet(linear_layer, TASK, config(), checkpoint_dir=tmp_path)
    quiet(linear_layer, TASK, config(checkpoint_every=3), checkpoint_dir=tmp_path)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint .*; delete it"):
        quiet(linear_layer, TASK, config(), checkpoint_dir=tmp_path)


# --- the history ------------------------------------------------------------------------------


def test_logging_and_company_do_not_change_the_weights():
    often = quiet(linear_layer, TASK, config(log_every=1))
    seldom = quiet(linear_layer, TASK, config(log_every=5), validate=lambda model: 1.0)
    assert list(seldom.history.steps) == [0, 5, 10]
    assert np.array_equal(seldom.history.loss, often.history.loss[::5])
    assert torch.equal(often.state["layers.0.w_key"], seldom.state["layers.0.w_key"])
    assert often.seconds > 0 and often.provenance["torch"]
    assert often.history.validation.shape == (0, 1)


def test_training_leaves_torch_as_it_was():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    quiet(linear_layer, TASK, config())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
