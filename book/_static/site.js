/* Small things that the theme leaves to us. Nothing here is needed to read the book. */
(function () {
  "use strict";

  // The theme replaces <i> icons by SVG; nested, so that the <i> itself stays.
  window.FontAwesomeConfig = { autoReplaceSvg: "nest" };

  const PARTS = {
    bayesian: "bayesian",
    gradient_descent: "gradient-descent",
    mesa_optimization: "mesa-optimization",
    implicit_dynamics: "implicit-dynamics",
    language_models: "language-models",
    development: "development",
  };

  /** In the sidebar, a chapter carries the color of its hypothesis. */
  function markParts() {
    for (const link of document.querySelectorAll(".bd-links a.reference.internal")) {
      const folder = new URL(link.href, location.href).pathname.split("/").slice(-2)[0];
      if (PARTS[folder]) link.classList.add("part-" + PARTS[folder]);
    }
  }

  const SCROLLERS = ".bd-article div.math, .bd-article pre, .bd-article div.cell_output, "
    + ".bd-article .text_html, .bd-article .pst-scrollable-table-container";

  /** What is wider than the page scrolls in its own box, and then the keyboard must reach that box. */
  function fit() {
    for (const formula of document.querySelectorAll(".bd-article mjx-container:not([display])")) {
      formula.classList.remove("too-wide");
      const room = formula.parentElement.closest("p, li, td, th, dd, dt, figcaption, h1, h2, h3, div");
      const wide = room && !room.closest("table") && formula.scrollWidth > room.clientWidth;
      formula.classList.toggle("too-wide", Boolean(wide));
      reachable(formula, wide);
    }
    for (const box of document.querySelectorAll(SCROLLERS)) {
      reachable(box, box.scrollWidth > box.clientWidth + 1);
    }
  }

  function reachable(box, scrolls) {
    if (scrolls && !box.hasAttribute("tabindex")) {
      box.tabIndex = 0;
      box.dataset.scrolls = "";
      if (!box.hasAttribute("role")) {
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", "wider than the page, scrolls sideways");
        box.dataset.scrolls = "named";
      }
    } else if (!scrolls && box.dataset.scrolls !== undefined) {
      box.removeAttribute("tabindex");
      if (box.dataset.scrolls === "named") {
        box.removeAttribute("role");
        box.removeAttribute("aria-label");
      }
      delete box.dataset.scrolls;
    }
  }

  /** An excerpt in the search results is of the page's text, not of its buttons. */
  function cleanExcerpts() {
    if (typeof Search === "undefined") return;
    const excerpt = Search.htmlToText;
    Search.htmlToText = (text, anchor) => {
      const page = new DOMParser().parseFromString(text, "text/html");
      for (const part of page.querySelectorAll(
        ".bd-header-article, .bd-sidebar-secondary, .prev-next-footer, #jb-print-docs-body, .icl-widget")) {
        part.remove();
      }
      return excerpt(page.documentElement.outerHTML, anchor);
    };
  }

  /** What a button says on its face is its name: the theme's own labels say something else. */
  function nameByText() {
    for (const el of document.querySelectorAll(".search-button-field, details > summary")) {
      el.removeAttribute("aria-label");
    }
  }

  /** A long signature is set in lines; the list that they come in has no terms, so it is none. */
  function linesOfSignatures() {
    for (const list of document.querySelectorAll("dt.sig dl")) {
      const lines = document.createElement("div");
      for (const item of list.children) {
        const line = document.createElement("div");
        line.className = "sig-line";
        line.append(...item.childNodes);
        lines.append(line);
      }
      list.replaceWith(lines);
    }
  }

  /** The bibliography is marked up as a list, whose items have to say that they are its items. */
  function itemsOfLists() {
    for (const entry of document.querySelectorAll("[role=list] > [role=doc-biblioentry]")) {
      entry.setAttribute("role", "listitem");
    }
  }

  /** Paper is light, whatever the screen was. */
  function printInTheLight() {
    const root = document.documentElement;
    let before = null;
    addEventListener("beforeprint", () => {
      before ??= root.dataset.theme;
      root.dataset.theme = "light";
    });
    addEventListener("afterprint", () => {
      if (before) root.dataset.theme = before;
      before = null;
    });
  }

  function watch() {
    printInTheLight();
    nameByText();
    linesOfSignatures();
    itemsOfLists();
    markParts();
    cleanExcerpts();
    fit();
    let waiting = 0;
    addEventListener("resize", () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(fit);
    });
    window.MathJax?.startup?.promise?.then(fit);
    window.iclWidgets?.ready.then(fit);
    document.fonts?.ready.then(fit);
    addEventListener("load", () => { window.MathJax?.startup?.promise?.then(fit); fit(); });
    document.addEventListener("toggle", fit, true);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watch);
  else watch();
})();
