"""The checks can fail: each is shown a page with its fault, and the same page without it."""

import page_checks
import pytest

pytestmark = pytest.mark.needs_chromium

GOOD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"></head>
<body><main><article class="bd-article"><h1>A page</h1><p>Text.</p>{}</article></main>
</body></html>"""

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)

FAULTS = [
    (page_checks.keeps_to_itself, '<img alt="x" src="https://example.org/x.png">', "another host"),
    (page_checks.keeps_to_itself, "<script>nosuchname()</script>", "nosuchname"),
    (page_checks.keeps_to_itself, '<script>console.error("ouch")</script>', "ouch"),
    (page_checks.keeps_to_itself, '<img alt="x" src="absent.png">', "404"),
    (page_checks.mathematics_is_set, '<span class="math">\\(x^2\\)</span>', "not typeset"),
    (page_checks.mathematics_is_set, "<p>where $\\alpha = 1$ holds</p>", "TeX in the text"),
    (page_checks.mathematics_is_set, "<p>so \\(x\\) is</p>", "TeX in the text"),
    (page_checks.mathematics_is_set, '<g data-mjx-error="Undefined">x</g>', "Undefined"),
    (page_checks.pictures_are_there, f'<img src="{PIXEL}">', "no description"),
    (page_checks.pictures_are_there, '<img alt="a cat" src="absent.png">', "not loaded"),
    (page_checks.pictures_are_there, "<svg width=9 height=9></svg>", "without a description"),
    (
        page_checks.components_run,
        '<script type="application/vnd.jupyter.widget-view+json">{}</script>',
        "not started",
    ),
    (page_checks.components_run, '<div class="icl-widget" data-state="failed">No</div>', "failed"),
    (page_checks.components_run, '<div class="icl-widget" data-state="ready"></div>', "empty"),
    (page_checks.fits_its_width, '<div style="width: 1500px">wide</div>', "px wide in"),
    (
        page_checks.fits_its_width,
        '<div style="overflow-x: auto"><div style="width: 1500px">wide</div></div>',
        "not by keyboard",
    ),
    (page_checks.anyone_can_use_it, '<p style="color: #ccc">pale</p>', "color-contrast"),
    (page_checks.anyone_can_use_it, "<button></button>", "button-name"),
    (page_checks.anyone_can_use_it, '<input type="range">', "label"),
]


@pytest.mark.parametrize("check, fault, named", FAULTS)
def test_a_planted_fault_is_found(open_html, check, fault, named):
    assert any(named in problem for problem in check(open_html(GOOD.format(fault))))


def test_a_page_without_faults_passes_every_check(open_html):
    fine = f'<img src="{PIXEL}" alt="one dot"><div style="overflow-x: auto" tabindex="0">x</div>'
    seen = open_html(GOOD.format(fine))
    for check in {check for check, _, _ in FAULTS}:
        assert check(seen) == [], check.__name__
