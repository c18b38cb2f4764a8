"""The palette reads well on its ground, and is the same in the page and in the figures."""

import re

import pytest

HUES = ["bayesian", "gradient-descent", "mesa-optimization", "implicit-dynamics",
        "language-models", "development", "exact", "other"]  # fmt: skip
THEMES = {"light": 'html, html[data-theme="light"] {', "dark": 'html[data-theme="dark"] {'}


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def palettes(root) -> dict[str, dict[str, str]]:
    style = (root / "book/_static/site.css").read_text()
    blocks = {}
    for theme, opening in THEMES.items():
        block = style[style.index(opening) :]
        found = re.findall(r"--icl-([a-z-]+): (#[0-9a-fA-F]{6});", block[: block.index("}")])
        blocks[theme] = {name: color.lower() for name, color in found}
    return blocks


def test_contrast_is_computed_as_defined():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # just below AA


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("hue", [*HUES, "ink", "quiet", "focus"])
def test_every_hue_is_legible_on_its_ground(palettes, theme, hue):
    colors = palettes[theme]
    assert contrast(colors[hue], colors["ground"]) >= 4.5
    assert contrast(colors[hue], colors["surface"]) >= 4.5


def test_the_figures_use_the_same_palette(palettes):
    from icl_lessons.figures.style import PALETTE

    for hue in HUES:
        light, dark = PALETTE[hue.replace("-", "_")]
        assert (light, dark) == (palettes["light"][hue], palettes["dark"][hue]), hue


@pytest.mark.parametrize("theme", THEMES)
def test_code_is_legible_on_its_surface(root, palettes, theme):
    style = (root / "book/_static/site.css").read_text()
    colors = re.findall(
        rf'data-theme="{theme}"\] \.bd-article \.highlight [^{{]*{{ color: (#\w+) !', style
    )
    assert len(colors) >= 4
    for color in colors:
        assert contrast(color, palettes[theme]["surface"]) >= 4.5, color
