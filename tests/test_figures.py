"""Figures: readable unseen, in light and in dark, unique on a page, the same each time."""

import html
import itertools
import re
import stat
import xml.etree.ElementTree as ElementTree

import IPython.display
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from icl_lessons.figures import (
    COLORS,
    LINE_STYLES,
    PALETTE,
    band,
    draw_matrix,
    draw_tokens,
    figure,
    figure_html,
    label_line,
    save,
    show,
    use_style,
)

ALT = 'Error falls from 1 to "0.2" & stays < 0.3'


@pytest.fixture(autouse=True)
def leave_no_figures():
    before = matplotlib.rcParams.copy()
    yield
    plt.close("all")
    matplotlib.rcParams.update(before)


def a_plot(values=(3.0, 1.0, 2.0)):
    """One of everything that has an id in SVG: clip paths, markers, hatches, text."""
    fig, ax = figure()
    ax.plot(values, color=COLORS["gradient_descent"], marker="o", label="one step")
    ax.bar([0, 1], [1, 2], color=COLORS["bayesian"], hatch="//")
    ax.set(xlabel="examples", ylabel="error", title="A plot")
    ax.legend()
    return fig


def panels(text):
    """The SVG elements of a block, parsed: a figure must be well formed."""
    found = re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)
    assert found
    return [ElementTree.fromstring(svg) for svg in found]


# --- what is shown ------------------------------------------------------------------------------


def test_a_figure_is_one_image_with_its_description():
    text = figure_html(a_plot(), a_plot((1.0, 2.0, 5.0)), alt=f"  {ALT}\n   and more ")
    opening = re.match(r"<div ([^>]*)>", text).group(1)
    assert 'role="img"' in opening and 'class="icl-figure"' in opening
    label = re.search(r'aria-label="([^"]*)"', opening).group(1)
    assert html.unescape(label) == f"{ALT} and more"
    drawn = panels(text)
    assert len(drawn) == 2
    # The parts of the picture are not read out one by one.
    assert all(svg.get("aria-hidden") == "true" for svg in drawn)


@pytest.mark.parametrize("alt", ["", "   ", "\n"])
def test_a_figure_without_description_is_refused(alt):
    with pytest.raises(ValueError, match="alt: describe the figure in words"):
        figure_html(a_plot(), alt=alt)
    with pytest.raises(TypeError):
        figure_html(a_plot())


def test_a_description_without_a_figure_is_refused():
    with pytest.raises(ValueError, match="figures: give at least one"):
        figure_html(alt=ALT)


def test_ids_are_unique_and_every_reference_finds_its_own():
    blocks = [
        figure_html(a_plot(), a_plot(), alt=ALT),
        figure_html(a_plot(), alt="Another figure of the same page"),
    ]
    per_panel = []
    for svg in itertools.chain(*map(panels, blocks)):
        text = ElementTree.tostring(svg, encoding="unicode")
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids)) and len(ids) > 10
        referred = set(re.findall(r"url\(#([^)]+)\)", text))
        referred |= set(re.findall(r'href="#([^"]+)"', text))
        assert len(referred) >= 3  # a clip path, a marker and a hatch
        assert referred <= set(ids)
        per_panel.append(set(ids))
    assert len(per_panel) == 3
    for one, other in itertools.combinations(per_panel, 2):
        assert not one & other


def test_colours_are_looked_up_on_the_page():
    text = figure_html(a_plot(), alt=ALT)
    style, drawing = text.split("</style>", 1)
    for name, (light, dark) in PALETTE.items():
        variable = f"--icl-{name.replace('_', '-')}"
        assert f"{variable}:{light};" in style and f"{variable}:{dark};" in style
        # In the drawing a colour of the palette stands only as what the variable falls back on.
        assert drawing.count(light) == drawing.count(f"var({variable},{light})")
    assert f"var(--icl-gradient-descent,{COLORS['gradient_descent']})" in drawing
    assert "var(--icl-bayesian," in drawing and "var(--icl-other," in drawing
    assert "data-theme=dark" in style and "data-jp-theme-light=false" in style


def test_its_style_does_not_reach_the_rest_of_the_page():
    """A style element counts for the whole page, wherever it stands."""
    styles = re.findall(r"<style[^>]*>(.*?)</style>", figure_html(a_plot(), alt=ALT), re.DOTALL)
    assert len(styles) == 2
    for selectors in re.findall(r"([^{}]+)\{", "".join(styles)):
        assert all(".icl-figure" in selector for selector in selectors.split(","))


def test_text_stays_text_in_the_page_s_own_face():
    (svg,) = panels(figure_html(a_plot(), alt=ALT))
    words = " ".join(svg.itertext())
    assert "examples" in words and "one step" in words and "A plot" in words
    assert "DejaVu" not in ElementTree.tostring(svg, encoding="unicode")


def test_the_same_figure_gives_the_same_text_and_names_no_date_or_tool():
    one, again = (figure_html(a_plot(), alt=ALT) for _ in range(2))
    assert one == again
    assert one != figure_html(a_plot((3.0, 1.0, 2.1)), alt=ALT)
    assert "metadata" not in one and "Matplotlib" not in one and "dc:date" not in one


def test_show_displays_the_figures_and_closes_them(monkeypatch):
    fig = a_plot()
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    show(fig, alt=ALT)
    assert not plt.fignum_exists(fig.number)
    assert [part.data for part in shown] == [figure_html(a_plot(), alt=ALT)]


# --- the palette --------------------------------------------------------------------------------


def luminance(color):
    """Relative luminance as WCAG 2 defines it."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_measure_of_contrast_is_the_standard_s():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("name", [name for name in PALETTE if name not in ("grid", "page")])
@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_every_hue_can_be_read_as_text(name, mode):
    assert contrast(PALETTE[name][mode], PALETTE["page"][mode]) >= 4.5


def test_no_two_names_share_a_colour():
    """The page finds a colour's name by its value, so a value must have one name."""
    for mode in (0, 1):
        values = [colors[mode] for colors in PALETTE.values()]
        assert len(set(values)) == len(values)
    assert COLORS == {name: light for name, (light, _) in PALETTE.items()}


def test_what_a_line_is_can_be_told_without_its_colour():
    styles = [(str(style["linestyle"]), style["linewidth"]) for style in LINE_STYLES.values()]
    assert len(set(styles)) == len(styles)
    for style in LINE_STYLES.values():
        plt.plot([0, 1], **style)  # every one is understood by matplotlib


def test_the_style_is_set_only_on_request():
    matplotlib.rcdefaults()  # whatever another test of this process has set
    before = matplotlib.rcParams["axes.grid"]
    assert not before
    figure()
    assert matplotlib.rcParams["axes.grid"] == before
    use_style()
    assert matplotlib.rcParams["axes.grid"]
    first = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"][0]
    assert first == COLORS["gradient_descent"]


# --- panels -------------------------------------------------------------------------------------


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_matrix_shows_its_numbers_its_zeros_and_its_blocks():
    use_style()
    _, ax = figure()
    matrix = np.array([[1.0, 0.0, -0.25], [0.0, 12.5, 0.0]])
    draw_matrix(
        ax,
        matrix,
        title="P",
        blocks=(1,),
        decimals=2,
        row_labels=("x", "y"),
        column_labels=("a", "b", "c"),
    )
    minus = "\N{MINUS SIGN}"
    assert texts(ax) == ["1.00", "·", f"{minus}0.25", "·", "12.50", "·"]
    places = {text.get_text(): text.get_position() for text in ax.texts if text.get_text() != "·"}
    assert places == {"1.00": (0.5, 0.5), f"{minus}0.25": (2.5, 0.5), "12.50": (1.5, 1.5)}
    # A sign is not told by colour alone.
    assert [patch.get_hatch() for patch in ax.patches[:3]] == [None, "////", None]
    assert ax.yaxis_inverted() and ax.get_title(loc="left") == "P"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["x", "y"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    rules = [line.get_xydata().tolist() for line in ax.lines]
    assert rules == [[[0, 1], [3, 1]], [[1, 0], [1, 2]]]


def test_a_large_matrix_is_shaded_without_numbers():
    _, ax = figure()
    draw_matrix(ax, np.array([[4.0, 0.0, -2.0], [-0.2, 0.02, 1.0]]), numbers=False)
    assert texts(ax) == []
    shaded = [(patch.get_xy(), patch.get_alpha(), patch.get_hatch()) for patch in ax.patches[:-1]]
    assert shaded == [
        ((0, 0), 1.0, None),
        ((2, 0), 0.5, "////"),
        ((0, 1), 0.05, None),  # too faint for a hatch, and 0.02 for a shade
        ((2, 1), 0.25, None),
    ]


def test_a_matrix_of_zeros_can_be_drawn():
    _, ax = figure()
    draw_matrix(ax, np.zeros((2, 3)))
    assert texts(ax) == ["·"] * 6


def test_tokens_are_drawn_as_columns_with_the_query_last():
    _, ax = figure()
    tokens = np.arange(1.0, 13.0).reshape(4, 3)
    draw_tokens(ax, tokens, 2, decimals=0)
    assert texts(ax) == [f"{value:.0f}" for value in tokens.T.ravel()]
    columns = [label.get_text() for label in ax.get_xticklabels()]
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert columns == ["$e_{1}$", "$e_{2}$", "$e_{3}$", "query"]
    assert rows == ["$x_{1}$", "$x_{2}$", "$y$"]
    rules = [line.get_xydata().tolist() for line in ax.lines]
    assert [[0, 2], [4, 2]] in rules and [[3, 0], [3, 3]] in rules


def test_a_band_is_mean_and_range_over_seeds():
    _, ax = figure()
    curves = np.array([[1.0, 2.0, 4.0], [3.0, 2.0, 0.0]])
    band(ax, np.array([10.0, 20.0, 30.0]), curves, color=COLORS["bayesian"], label="mean")
    (line,) = ax.lines
    assert line.get_xydata().tolist() == [[10, 2], [20, 2], [30, 2]]
    assert line.get_label() == "mean"
    corners = {tuple(point) for point in ax.collections[0].get_paths()[0].vertices}
    assert {(10, 1), (10, 3), (20, 2), (30, 0), (30, 4)} <= corners


def test_a_curve_is_named_beside_it_in_its_colour():
    _, ax = figure()
    label_line(ax, 2.0, 3.0, "one step", COLORS["exact"], fontsize=8)
    (note,) = ax.texts
    assert note.get_text() == "one step" and note.xy == (2.0, 3.0)
    assert note.get_color() == COLORS["exact"] and note.get_fontsize() == 8


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix, start", [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
)
def test_a_file_is_whole_readable_by_others_and_the_same_each_time(tmp_path, suffix, start):
    path = tmp_path / f"plot.{suffix}"
    save(a_plot(), path)
    content = path.read_bytes()
    assert content.startswith(start)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    save(a_plot(), str(path))
    assert path.read_bytes() == content
    assert [other.name for other in tmp_path.iterdir()] == [path.name]


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file(tmp_path):
    path = tmp_path / "plot.svg"
    save(a_plot(), path)
    content = path.read_bytes()
    fig = a_plot()
    fig.axes[0].set_title(r"$\nonsense{$")  # fails only when it is drawn
    with pytest.raises(ValueError):
        save(fig, path)
    assert path.read_bytes() == content
    assert [other.name for other in tmp_path.iterdir()] == ["plot.svg"]


def test_a_format_that_does_not_exist_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="bmp3"):
        save(a_plot(), tmp_path / "plot.bmp3")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_figure_stands_on_the_light_page(tmp_path):
    path = tmp_path / "plot.png"
    save(a_plot(), path)
    corner = plt.imread(path)[0, 0, :3]
    assert np.allclose(corner, to_rgb(COLORS["page"]), atol=1 / 255)
