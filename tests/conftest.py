"""What all tests share: one thread each, and the tests that need more than pip can bring."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# Two pytest workers share a small machine; this must be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import system_parts  # noqa: E402

MARKERS = {"needs_chromium": "chromium", "needs_bubblewrap": "bubblewrap"}
MISSING = "system part missing: "
_here: dict[str, bool] = {}


def is_here(part: str) -> bool:
    """Whether a system part can be used on this machine (looked up once)."""
    if part not in _here:
        _here[part] = bool(system_parts.FINDERS[part]())
    return _here[part]


def pytest_runtest_setup(item):
    """Skip a test whose system part is absent, or fail it where parts are required."""
    for marker, part in MARKERS.items():
        if item.get_closest_marker(marker) and not is_here(part):
            reason = f"{MISSING}{part}, install it with {system_parts.command_for([part])}"
            if os.environ.get("ICL_REQUIRE_SYSTEM_PARTS") == "1":
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
    if item.get_closest_marker("needs_gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch finds no GPU on this machine")


def pytest_terminal_summary(terminalreporter):
    """Count the tests that were skipped for a missing part and name the one command."""
    reasons = [str(r.longrepr[2]) for r in terminalreporter.stats.get("skipped", [])
               if isinstance(r.longrepr, tuple)]  # fmt: skip
    absent = [r.split(MISSING)[1].split(",")[0] for r in reasons if MISSING in r]
    if absent:
        command = system_parts.command_for(sorted(set(absent)))
        terminalreporter.write_line(
            f"{len(absent)} tests skipped, system parts missing: {command}", yellow=True
        )


@pytest.fixture(scope="session")
def stored_verdicts():
    """The verdict of every claim as stored; test_stored_claims.py checks every claim again."""
    from icl_lessons.ledger import collect_claims, stored_claims

    collect_claims()
    return {record.id: record.verdict for record in stored_claims()[0]}


@pytest.fixture(scope="session")
def tokenizer_of():
    """``tokenizer_of(texts)``: byte pairs of a few texts, in which each of their words is one."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")

    def make(texts):
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = tokenizers.decoders.ByteLevel()
        end = "<|endoftext|>"
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=700,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[end],
            show_progress=False,
        )
        made.train_from_iterator(list(texts) * 20, trainer)
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=made, bos_token=end, eos_token=end, pad_token=end
        )

    return make


@pytest.fixture(scope="session")
def tiny_model_and_reviews(tmp_path_factory, tokenizer_of):
    """Settings that make a study run on a random GPT-2 of two blocks and ten film reviews."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny")
    reviews = [
        {"text": f"{how} film number {i}", "label": label}
        for i in range(5)
        for label, how in enumerate(("a dull", "a warm and funny"))
    ]
    (folder / "sst2.jsonl").write_text("\n".join(map(json.dumps, reviews)))
    words = ("positive", "negative")
    tokenizer = tokenizer_of(
        f"Review: {r['text']}\nSentiment: {word}\n\n" for r in reviews for word in words
    )
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return {"model": str(folder / "model"), "data": str(folder), "tasks": ("sst2",)}


@pytest.fixture(scope="session")
def chromium():
    """The path of Chromium; use it in tests marked `needs_chromium`."""
    return system_parts.find_chromium()


# No window, no sandbox of its own (containers refuse it), and no talk with servers of its maker.
CHROMIUM_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser(chromium):
    """A running Chromium; one for each process, since Playwright can be started only once in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(chromium), args=CHROMIUM_FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the project."""
    return ROOT


@pytest.fixture
def as_readers_run_it():
    """Switch off the run-time check of annotations, which only the test run has.

    With it on, a wrong shape never reaches the package's own check; a reader meets that check.
    """
    import jaxtyping

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
