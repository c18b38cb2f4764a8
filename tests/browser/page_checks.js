// What the checks of page_checks.py look at, in the page. Each function returns a list of problems.
({
  mathematics_is_set: () => {
    const problems = [];
    for (const el of document.querySelectorAll(".bd-article .math")) {
      if (!el.querySelector("mjx-container svg")) problems.push("not typeset: " + el.textContent);
    }
    for (const el of document.querySelectorAll("[data-mjx-error], mjx-merror, [data-mml-node=merror]")) {
      problems.push("mathematics error: " + (el.dataset.mjxError ?? el.textContent));
    }
    const texts = document.createTreeWalker(
      document.querySelector("article") ?? document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode;
      if (node.parentElement.closest("code, pre, script, style, mjx-container, .icl-widget, svg")) continue;
      if (/\$\$|\\\(|\\\[|\\begin\{|\$(?=\S)[^$]*\\[a-z]+[^$]*\$/.test(node.data)) {
        problems.push("TeX in the text: " + node.data.trim().slice(0, 80));
      }
    }
    return problems;
  },

  pictures_are_there: async () => {
    const problems = [];
    for (const img of document.querySelectorAll("article img")) {
      img.loading = "eager";
      await img.decode().catch(() => {});
      const name = img.getAttribute("src").slice(-60);
      if (!img.complete || img.naturalWidth === 0) problems.push("not loaded: " + name);
      if (!img.alt || img.alt.startsWith("../") || img.alt.startsWith("_images")) {
        problems.push("no description: " + name);
      }
    }
    for (const svg of document.querySelectorAll("article svg")) {
      if (svg.closest("mjx-container, .icl-widget, a, button, summary, [aria-hidden=true]")) continue;
      const holder = svg.closest("[role=img]");
      if (!holder?.getAttribute("aria-label") && !holder?.getAttribute("aria-labelledby")
          && !holder?.querySelector("title")) problems.push("a drawing without a description");
    }
    return problems;
  },

  components_run: () => {
    const problems = [];
    const views = 'script[type="application/vnd.jupyter.widget-view+json"]';
    for (const _ of document.querySelectorAll(views)) problems.push("a component was not started");
    for (const el of document.querySelectorAll(".icl-widget")) {
      if (el.dataset.state !== "ready") problems.push("a component failed: " + el.textContent.trim());
      else if (el.getBoundingClientRect().height < 20 && el.offsetParent) problems.push("a component is empty");
    }
    return problems;
  },

  fits_its_width: () => {
    const problems = [], root = document.documentElement;
    if (root.scrollWidth > innerWidth) {
      const wide = [...document.querySelectorAll("body *")].filter((el) => {
        const box = el.getBoundingClientRect();
        return box.right > innerWidth + 1 && box.width > 0 && !el.closest(".bd-sidebar-primary, dialog");
      });
      const names = wide.slice(0, 3).map((el) => el.tagName + "." + el.className + " " + el.textContent.trim().slice(0, 50));
      problems.push(`${root.scrollWidth} px wide in ${innerWidth} px: ` + names.join("; "));
    }
    for (const el of document.querySelectorAll("article *")) {
      const style = getComputedStyle(el);
      if (/auto|scroll/.test(style.overflowX) && el.scrollWidth > el.clientWidth + 1 && el.clientWidth > 0
          && el.tabIndex < 0 && !el.querySelector("a, button, input, [tabindex='0']")) {
        problems.push("scrolls, but not by keyboard: " + el.tagName + "." + el.className);
      }
    }
    return problems;
  },
})
