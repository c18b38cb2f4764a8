"""CPU time of training one linear attention layer, beside references, as ratios.

    python benchmarks/bench.py [--quick] [--json] [--jax-python PATH]

The workload is the one-layer setting of von Oswald et al.: d = N = 10, 2048 fresh contexts a step.
Contenders take turns in one run on one thread, and what is compared is CPU time, so that ratios
hold on a busy machine, where absolute times do not. Every contender is held to one quality: the
exact expected loss of its weights within 1 % of that of the best single step of gradient descent.

The peer in JAX runs in its own process. JAX is no dependency of the course: it is used if the
interpreter has it, or if ``--jax-python`` (or ICL_LESSONS_JAX_PYTHON) names one that has it;
otherwise its rows say that it was not measured.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402  (the number of threads is read when torch is imported)
import torch  # noqa: E402
from peer_torch import PlainLoop  # noqa: E402

from icl_lessons.gradient_descent.one_step import LinearSelfAttentionLearner  # noqa: E402
from icl_lessons.gradient_descent.population_loss import (  # noqa: E402
    attention_population_loss,
    best_single_step,
)
from icl_lessons.models.attention import SelfAttention  # noqa: E402
from icl_lessons.tasks.regression import von_oswald_task  # noqa: E402
from icl_lessons.training import TrainingConfig, train  # noqa: E402

D = N = 10
INIT_STD = 0.0135  # of the released code: a variance scale of 0.002 with fan-in 11
TASK = von_oswald_task(D)
GOAL = 1.01 * best_single_step(TASK, N).loss
SEEDS = tuple(range(32))


def layer(generator: torch.Generator) -> LinearSelfAttentionLearner:
    return LinearSelfAttentionLearner(
        [SelfAttention(D + 1, init_std=INIT_STD, generator=generator)], D
    )


def expected_loss(model: LinearSelfAttentionLearner) -> torch.Tensor:
    attention = model.layers[0]
    return attention_population_loss(
        attention.key_query()[0], attention.projection_value()[0], TASK, N
    )


def sampled(steps: int, **changes) -> TrainingConfig:
    """The peer's own settings."""
    settings = {"batch_size": 2048, "n_context": N, "learning_rate": 1e-3, "clip": 10.0}
    return TrainingConfig(steps=steps, **{**settings, **changes})


class Ours:
    """This package's training, as a contender: each turn is a run of its own."""

    def __init__(self, task, loss, **settings):
        self.task, self.loss, self.settings = task, loss, settings

    def run(self, steps: int) -> float:
        config = sampled(steps, **self.settings)
        run = train(layer, self.task, config, loss=self.loss, progress=False)
        return run.cpu_seconds / len(config.seeds)


class JaxPeer:
    """The worker of ``peer_jax.py``."""

    def __init__(self, python: str, batch_size: int):
        options = json.dumps({"batch_size": batch_size, "seed": 0, "init_std": INIT_STD})
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("peer_jax.py")), options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self._answer()["jax"]

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the JAX worker ended; its message is above")
        return json.loads(line)

    def run(self, steps: int) -> float:
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.weights = {name: torch.tensor(w) for name, w in answer["weights"].items()}
        return answer["seconds"]

    def products(self):
        w = self.weights
        return w["w_key"].T @ w["w_query"], w["projection"] @ w["w_value"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def to_quality(loop, at_most: int, every: int) -> tuple[int | None, float | None]:
    """Steps and CPU seconds until the loop's weights are good enough; ``None`` if they never are.

    Looking at the weights is not in the time.
    """
    seconds = 0.0
    for step in range(every, at_most + 1, every):
        seconds += loop.run(every)
        if attention_population_loss(*loop.products(), TASK, N) <= GOAL:
            return step, seconds
    return None, None


def closed_form_to_quality(at_most: int, **settings) -> tuple[float, float, list[float]]:
    """Median steps over the seeds, CPU seconds for all of them, and the steps of each seed."""
    config = sampled(at_most, target_loss=GOAL, **settings)
    run = train(layer, None, config, loss=expected_loss, progress=False)
    steps = run.history.steps_to(GOAL)
    return float(np.median(steps)), run.cpu_seconds, steps.tolist()


def sampled_to_quality(at_most: int, **settings) -> tuple[int | None, float | None]:
    """Find the step first, then time a run to it that looks at nothing but its own loss."""
    config = sampled(at_most, target_loss=GOAL, validate_every=25, **settings)
    found = train(layer, TASK, config, validate=expected_loss, progress=False)
    if found.stopped != "target_loss" and found.history.validation[-1, 0] > GOAL:
        return None, None
    whole = at_most if config.schedule != "constant" else found.steps  # a schedule has an end
    timed = train(layer, TASK, sampled(whole, **settings), progress=False)
    return whole, timed.cpu_seconds


def measure(quick: bool, jax_python: str | None) -> dict:
    """All rows, as data."""
    batch_size = 256 if quick else 2048
    rounds, turn = (2, 5) if quick else (9, 40)
    jax = JaxPeer(jax_python, batch_size) if jax_python else None
    contenders = {
        "peer: JAX, one jitted step": jax,
        "plain PyTorch loop": PlainLoop(batch_size, seed=0, init_std=INIT_STD),
        "this training, sampled": Ours(TASK, None, batch_size=batch_size),
        "this training, closed form": Ours(None, expected_loss),
        "this training, closed form, 32 seeds (each)": Ours(None, expected_loss, seeds=SEEDS),
    }
    present = {name: c for name, c in contenders.items() if c is not None}
    for contender in present.values():
        contender.run(turn)  # caches warm, allocators grown
    times = {name: [] for name in present}
    for _ in range(rounds):
        for name, contender in present.items():
            times[name].append(contender.run(turn) / turn)

    def ratio(reference, name):
        if reference not in times or name not in times:
            return None
        pairs = zip(times[reference], times[name], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    names = list(contenders)
    per_step = [
        {
            "name": name,
            "cpu_ms_per_step": statistics.median(times[name]) * 1e3 if name in times else None,
            "times_faster_than_jax": ratio(names[0], name),
            "times_faster_than_plain_torch": ratio(names[1], name),
        }
        for name in names
    ]

    at_most = 1200
    quality = {}
    if jax:
        jax.close()
        jax = JaxPeer(jax_python, batch_size)
        quality[names[0]] = to_quality(jax, at_most, 25)
        jax.close()
    else:
        quality[names[0]] = (None, None)
    plain = PlainLoop(batch_size, seed=0, init_std=INIT_STD)
    quality[names[1]] = to_quality(plain, at_most, 25)
    quality["sampled, the peer's settings"] = sampled_to_quality(at_most, batch_size=batch_size)
    quality["sampled, batch 512, rate 0.01 to 0"] = sampled_to_quality(
        200, batch_size=512, learning_rate=1e-2, schedule="linear_decay"
    )
    quality["closed form, the peer's rate and clipping"] = closed_form_to_quality(at_most)[:2]
    own = {"learning_rate": 4e-2, "clip": None}
    quality["closed form, rate 0.04"] = closed_form_to_quality(at_most, **own)[:2]
    steps, seconds, each = closed_form_to_quality(at_most, seeds=SEEDS, **own)
    quality["closed form, rate 0.04, 32 seeds (all)"] = (steps, seconds)
    quality["closed form, rate 0.04, 32 seeds (each)"] = (steps, seconds / len(SEEDS))

    def times_faster(reference, seconds):
        theirs = quality[reference][1]
        return theirs / seconds if theirs and seconds else None

    return {
        "machine": platform.machine(),
        "torch": torch.__version__.split("+")[0],
        "jax": jax.version if jax else None,
        "batch_size": batch_size,
        "rounds": rounds,
        "steps_in_a_turn": turn,
        "goal": GOAL,
        "per_step": per_step,
        "to_quality": [
            {
                "name": name,
                "steps": steps,
                "cpu_seconds": seconds,
                "times_faster_than_jax": times_faster(names[0], seconds),
                "times_faster_than_plain_torch": times_faster(names[1], seconds),
            }
            for name, (steps, seconds) in quality.items()
        ],
        "closed_form_steps_of_each_seed": each,
    }


def text(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def report(result: dict) -> None:
    """Print the rows as two tables."""
    jax = result["jax"] or "not installed; see --jax-python"
    print(
        f"One linear attention layer, d = N = 10, batch {result['batch_size']}, one thread. "
        f"torch {result['torch']}, JAX {jax}."
    )
    print(
        f"\nCPU time per step: medians of {result['rounds']} rounds in turns of "
        f"{result['steps_in_a_turn']} steps\n"
    )
    print(f"{'':44}{'ms':>14}{'x JAX peer':>14}{'x plain torch':>15}")
    for row in result["per_step"]:
        print(
            f"{row['name']:44}{text(row['cpu_ms_per_step']):>14}"
            f"{text(row['times_faster_than_jax']):>14}"
            f"{text(row['times_faster_than_plain_torch']):>15}"
        )
    print(
        f"\nTo quality: expected loss at most {result['goal']:.5f}, within 1 % of the best single "
        "step\n(weights trained on samples are looked at every 25 steps; - for not measured or not "
        "reached)\n"
    )
    print(f"{'':44}{'steps':>14}{'CPU s':>14}{'x JAX peer':>14}{'x plain torch':>15}")
    for row in result["to_quality"]:
        print(
            f"{row['name']:44}{text(row['steps'], 5):>14}{text(row['cpu_seconds']):>14}"
            f"{text(row['times_faster_than_jax']):>14}"
            f"{text(row['times_faster_than_plain_torch']):>15}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small batches, few rounds")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument(
        "--jax-python",
        default=os.environ.get("ICL_LESSONS_JAX_PYTHON")
        or (sys.executable if importlib.util.find_spec("jax") else None),
        help="an interpreter that has JAX",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(options.quick, options.jax_python)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        report(result)


if __name__ == "__main__":
    main()
