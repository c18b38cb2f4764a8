"""The benchmark runs, prints every row, and reaches quality in the steps it should."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "benchmarks" / "bench.py"


@pytest.fixture(scope="module")
def result():
    environment = {k: v for k, v in os.environ.items() if k != "ICL_LESSONS_JAX_PYTHON"}
    command = [sys.executable, str(BENCH), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_row_is_there_and_has_its_ratio(result):
    steps, quality = result["per_step"], result["to_quality"]
    assert len(steps) == 5 and len(quality) == 8
    for row in steps:
        if "JAX" not in row["name"]:
            assert row["cpu_ms_per_step"] > 0 and row["times_faster_than_plain_torch"] > 0
    for row in quality:
        if "JAX" not in row["name"]:
            assert row["steps"] > 0 and row["times_faster_than_plain_torch"] > 0


def test_a_reference_that_is_not_there_is_said_to_be_missing(result):
    if result["jax"] is None:
        assert result["per_step"][0]["cpu_ms_per_step"] is None
        assert all(row["times_faster_than_jax"] is None for row in result["to_quality"])
    else:
        assert result["per_step"][0]["cpu_ms_per_step"] > 0


def test_the_closed_form_reaches_quality_within_its_steps(result):
    steps = {row["name"]: row["steps"] for row in result["to_quality"]}
    assert steps["closed form, rate 0.04"] <= 60
    assert steps["closed form, the peer's rate and clipping"] <= 300
    assert max(result["closed_form_steps_of_each_seed"]) <= 150
    assert len(result["closed_form_steps_of_each_seed"]) == 32
    assert steps["sampled, the peer's settings"] <= 1200
    assert steps["sampled, batch 512, rate 0.01 to 0"] == 200
