// The context as a weight update: move, add and remove tokens; one column times one row stands for them.
import {
  axes, button, captionAndWords, clamp, component, dragHandles, figure, fitWidth, formatNumber, handle, html, labelledCheck,
  legendKey, linearScale, onResize, oncePerFrame, panel, roundTo, startingStates, svg, uniqueId,
} from "./parts.mjs";
import { HIDDEN, MOST_TOKENS, REACH, WIDTH, errorMap, solveUpdate } from "./weight_update_math.mjs";
import { entryText, gapText, mapSentence, place, tokenSentence, updateCaption, updateDescription } from "./weight_update_words.mjs";

const TRAITS = ["xs", "ys", "query", "skip", "patch_bias", "kept", "seed"];
const EDGE = 2.15; // of both planes, each way
const NEW_TOKENS = [[1.6, 0.9], [-0.3, -0.6], [-1.7, -0.8], [0.5, -1.6], [-0.4, 0.9], [1.8, -0.2], [-1.8, 1.8], [1.1, 1.8], [-0.2, -1.8], [1.8, -1.8], [-1.2, -1.8], [0.2, 0.3]];

const START = { xs: [-1.5, -0.8, 0.3, 1.4, -1.1], ys: [1.2, -1.3, 1.6, -1, 0.2], query: [0.8, 0.5], skip: false, patch_bias: true, kept: [], seed: 7 };
const PRESETS = {
  five: ["Five tokens", START],
  twelve: ["Twelve tokens", { ...START, xs: [...START.xs, ...NEW_TOKENS.slice(0, 7).map(([x]) => x)], ys: [...START.ys, ...NEW_TOKENS.slice(0, 7).map(([, y]) => y)] }],
  one: ["One token", { ...START, xs: START.xs.slice(0, 1), ys: START.ys.slice(0, 1) }],
  kept: ["The update kept, the query moved", { ...START, query: [-0.8, 0.5], kept: [0.8, 0.5, ...START.xs.flatMap((x, i) => [x, START.ys[i]])] }],
  skip: ["A skip connection, its bias patched", { ...START, skip: true }],
  unpatched: ["A skip connection, its bias not patched", { ...START, skip: true, patch_bias: false }],
};

const pairs = (list) => list.flatMap((value, i) => (i % 2 ? [] : [[value, list[i + 1]]]));
const readUpdate = (model) => ({
  tokens: model.get("xs").map((x, i) => [x, model.get("ys")[i] ?? 0]), query: model.get("query"), skip: model.get("skip"),
  patchBias: model.get("patch_bias"), kept: pairs(model.get("kept")), seed: model.get("seed"),
});
const queryMark = () => svg("path", { class: "icl-query", d: "M0 -9 L8 6 L-8 6 Z" });
const onPlot = (value) => clamp(roundTo(value, 2), -REACH, REACH);

function renderUpdate({ model, el }) {
  let state = readUpdate(model);
  let solution = solveUpdate(state);
  let chosen = null;
  const telling = captionAndWords();
  const mapClip = uniqueId("clip");
  const redraw = oncePerFrame(draw);
  function change(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    redraw();
  }
  const setTokens = (tokens) => change({ xs: tokens.map(([x]) => x), ys: tokens.map(([, y]) => y) });

  // ---- controls
  const starts = startingStates({ model, traits: TRAITS, presets: PRESETS, apply: change });
  const keep = labelledCheck({
    label: "Keep this update", onchange: (on) => change({ kept: on ? [state.query, ...state.tokens].flat() : [] }),
  });
  const skip = labelledCheck({ label: "Skip connection", onchange: (on) => change({ skip: on }) });
  const patch = labelledCheck({ label: "Patch the bias too", onchange: (on) => change({ patch_bias: on }) });
  const another = button("Another random block", () => change({ seed: (state.seed + 1) % 1000 }));

  // ---- numbers
  const tile = (name) => {
    const [value, note] = [html("span", { class: "icl-tile-value" }), html("span", { class: "icl-tile-note" })];
    return { el: html("div", { class: "icl-tile" }, html("span", { class: "icl-tile-name" }, name), value, note), value, note };
  };
  const tiles = { rank: tile("Rank of ΔW"), size: tile("Its singular value"), gap: tile("The two outputs differ by") };

  // ---- the plane of tokens
  const plane = svg("svg", { class: "icl-plot", role: "group", "aria-label": "The context's tokens and the query" });
  const planeBack = svg("g", { "aria-hidden": "true" });
  const planeHandles = svg("g", {});
  plane.append(planeBack, planeHandles);
  const planeNote = html("p", { class: "icl-note" });
  let toX = linearScale(-EDGE, EDGE, 0, 1);
  let toY = linearScale(-EDGE, EDGE, 1, 0);
  const removeToken = (i) => {
    if (i < 0 || i >= state.tokens.length) return;
    const focused = planeHandles.contains(document.activeElement);
    chosen = null;
    setTokens(state.tokens.filter((_, j) => j !== i));
    draw();
    if (focused) (handles[Math.min(i, handles.length - 1)] ?? query).el.focus({ preventScroll: true });
  };
  const handles = [];
  const tokenHandle = (i) => {
    const one = handle({
      label: `Token ${i + 1}`, shapes: [svg("circle", { class: "icl-example", r: 6.5 })], position: () => state.tokens[i],
      move: (to) => {
        chosen = i;
        setTokens(state.tokens.map((point, j) => (j === i ? to.map(onPlot) : point)));
        state = readUpdate(model);
      },
      step: 0.1, fineStep: 0.01, remove: () => removeToken(i),
    });
    one.el.addEventListener("focus", () => { chosen = i; redraw(); });
    return one;
  };
  const queryHandle = (label) => handle({
    label, shapes: [queryMark()], position: () => state.query,
    move: (to) => { change({ query: to.map(onPlot) }); state = readUpdate(model); }, step: 0.1, fineStep: 0.01,
  });
  const query = queryHandle("The query");
  planeHandles.append(query.el);
  const add = button("Add token", () => {
    const free = NEW_TOKENS.find(([x, y]) => !state.tokens.some((other) => other[0] === x && other[1] === y)) ?? [0, 0];
    chosen = state.tokens.length;
    setTokens([...state.tokens, free]);
  });
  const remove = button("Remove", () => removeToken(chosen ?? state.tokens.length - 1));

  // ---- the matrices, the outputs and the map
  const matrices = svg("svg", { class: "icl-plot", role: "img" });
  const matricesNote = html("p", { class: "icl-note" });
  const outputs = html("table", { class: "icl-matrix icl-rows" });
  const outputsNote = html("p", { class: "icl-note" });
  const [fed, hidden] = [0, 1].map(() => html("table", { class: "icl-matrix icl-rows" }));
  const hiddenNote = html("p", { class: "icl-note" });
  const map = svg("svg", { class: "icl-plot", role: "group", "aria-label": "The error of this one update at every query" });
  const mapBack = svg("g", { "aria-hidden": "true" });
  const mapQuery = queryHandle("The query, on the map of errors");
  map.append(mapBack, mapQuery.el);
  const mapNote = html("p", { class: "icl-note" });
  let mapX = toX;
  let mapY = toY;
  for (const [surface, held, scales] of [[plane, () => [...handles, query], () => [toX, toY]], [map, () => [mapQuery], () => [mapX, mapY]]]) {
    dragHandles({
      surface, handles: held, says: telling.says,
      toPixels: (one) => { const [x, y] = one.position(); return [scales()[0](x), scales()[1](y)]; },
      toData: (px, py) => [scales()[0].invert(px), scales()[1].invert(py)],
    });
  }

  const root = component("icl-update", "Explorable: the context as a weight update",
    starts.el,
    html("div", { class: "icl-pair icl-spaced" }, keep.el, skip.el, patch.el, another),
    html("div", { class: "icl-tiles" }, tiles.rank.el, tiles.size.el, tiles.gap.el),
    html("div", { class: "icl-panels" },
      panel("Context tokens and the query", figure(plane), html("ul", { class: "icl-legend" },
        legendKey(18, svg("circle", { class: "icl-example", cx: 9, cy: 9, r: 5.5 }), "token, drag it"),
        legendKey(20, svg("path", { class: "icl-query", d: "M10 2 L17 15 L3 15 Z" }), "query, drag it"),
        legendKey(22, svg("circle", { class: "icl-share", cx: 11, cy: 9, r: 8 }), "disk: its share of attention")),
        html("div", { class: "icl-bar icl-tight" }, add, remove), planeNote),
      panel("W, and the update that stands for the context", figure(matrices), matricesNote, outputs, outputsNote),
      panel("This one update, used at every query", figure(map), html("ul", { class: "icl-legend" },
        legendKey(20, svg("circle", { class: "icl-ring", cx: 10, cy: 9, r: 7 }), "made here"),
        legendKey(20, svg("path", { class: "icl-query", d: "M10 2 L17 15 L3 15 Z" }), "query"),
        legendKey(26, svg("path", { class: "icl-hatch", d: "M1 17 L12 2 M12 17 L23 2" }), "hatched: worse than no update")), mapNote),
      panel("Why it is exact: one line", html("p", { class: "icl-formula" }, "(W + ΔW) A(x) = W A(x) + W (A(C, x) − A(x)) = W A(C, x)"), fed, hidden, hiddenNote)),
    ...telling.nodes);
  el.append(root);

  function draw() {
    state = readUpdate(model);
    solution = solveUpdate(state);
    if (chosen !== null && chosen >= state.tokens.length) chosen = null;
    drawControls();
    drawPlane();
    drawMatrices();
    drawOutputs();
    drawMap();
    telling.tell(updateCaption(state, solution), updateDescription(state, solution));
    root.dataset.solution = JSON.stringify(solution);
  }

  function drawControls() {
    const { tokens, kept, skip: carried, patchBias } = state;
    keep.input.checked = kept.length > 0;
    skip.input.checked = carried;
    patch.input.checked = patchBias;
    patch.el.hidden = !carried;
    add.disabled = tokens.length >= MOST_TOKENS;
    remove.disabled = tokens.length === 0;
    remove.textContent = tokens.length === 0 ? "Remove" : `Remove token ${(chosen ?? tokens.length - 1) + 1}`;
    const { rank, size, sizeW, gap, alone } = solution;
    tiles.rank.value.textContent = String(rank);
    tiles.rank.note.textContent = `of at most ${WIDTH}, with ${tokens.length} ${tokens.length === 1 ? "token" : "tokens"}`;
    tiles.size.value.textContent = formatNumber(size, 3);
    tiles.size.note.textContent = `${formatNumber(size / sizeW, 2)} times |W|`;
    tiles.gap.value.textContent = gapText(gap);
    tiles.gap.note.textContent = `with no update: ${gapText(alone)}`;
    starts.show();
  }

  /** A square plane in its drawing: scales and axes. */
  function square(drawing) {
    const { width, height } = fitWidth(drawing, (wide) => clamp(0.9 * wide, 270, 380));
    const side = Math.min(width - 40, height - 60);
    const left = (width - side) / 2 + 10;
    const area = { left, right: left + side, top: 22, bottom: 22 + side };
    const [x, y] = [linearScale(-EDGE, EDGE, area.left, area.right), linearScale(-EDGE, EDGE, area.bottom, area.top)];
    return { x, y, side, area, lines: axes({ x, y, ...area, xName: "first coordinate", yName: "second coordinate", xTicks: [-2, -1, 0, 1, 2], yTicks: [-2, -1, 0, 1, 2] }) };
  }

  function drawPlane() {
    const { x, y, lines } = square(plane);
    [toX, toY] = [x, y];
    const { shares } = solution;
    planeBack.replaceChildren(...lines, ...[...state.tokens, state.query].map((point, i) =>
      svg("circle", { class: "icl-share", cx: x(point[0]), cy: y(point[1]), r: 34 * Math.sqrt(shares[i]) })));
    while (handles.length > state.tokens.length) handles.pop().el.remove();
    while (handles.length < state.tokens.length) {
      handles.push(tokenHandle(handles.length));
      planeHandles.append(handles.at(-1).el);
    }
    handles.forEach((one, i) => {
      const point = state.tokens[i];
      one.place(x(point[0]), y(point[1]), { text: `${place(point)}, ${formatNumber(100 * shares[i], 0)} % of attention`, now: point[1], low: -REACH, high: REACH });
      one.el.classList.toggle("icl-chosen", i === chosen);
    });
    query.place(x(state.query[0]), y(state.query[1]), { text: place(state.query), now: state.query[1], low: -REACH, high: REACH });
    planeNote.textContent = `${tokenSentence(state, solution, chosen ?? state.tokens.length - 1)} Arrow keys move what is focused, Delete removes a token.`;
  }

  /** A matrix as a heat map: colour for size, the sign in the number. */
  function heat(rows, { left, top, cell, tall, most }) {
    return rows.flatMap((row, a) => row.flatMap((value, b) => {
      const at = { x: left + b * cell, y: top + a * tall };
      return [
        svg("rect", { ...at, class: `icl-heat ${value < 0 ? "icl-below" : "icl-above"}`, width: cell - 2, height: tall - 2, rx: 3, style: `--size:${(most > 0 ? Math.abs(value) / most : 0).toFixed(3)}` }),
        svg("text", { class: "icl-entry", x: at.x + cell / 2 - 1, y: at.y + tall / 2 + 3.5, "text-anchor": "middle" }, entryText(value)),
      ];
    }));
  }

  function drawMatrices() {
    const { dense, delta, left, right, bias, size, singular, singularW } = solution;
    const patched = state.skip;
    const stacked = (matrices.parentElement.clientWidth || 0) < 390;
    const tall = 29;
    const block = HIDDEN * tall;
    const head = 24;
    const second = stacked ? head + block + 26 : 0;
    const { width } = fitWidth(matrices, () => second + head + tall + 10 + block + (patched ? 26 + tall : 0) + 4);
    const cell = Math.min(stacked ? (width - 14) / (WIDTH + 1) : (width - 26) / (2 * WIDTH + 1), 58);
    const ofW = stacked ? width - WIDTH * cell : 0;
    const edge = stacked ? 0 : WIDTH * cell + 16;
    const inside = edge + cell + 8;
    const topW = stacked ? head : head + tall + 8;
    const top = second + head + tall + 8;
    const most = (rows) => Math.max(...rows.flat().map(Math.abs), 0);
    const title = (text, x, y, anchor = "start") => svg("text", { class: "icl-axis icl-strong", x, y, "text-anchor": anchor }, text);
    const above = second + head - 8;
    matrices.replaceChildren(
      title("W", ofW, topW - 8), ...heat(dense, { left: ofW, top: topW, cell, tall, most: most(dense) }),
      title("ΔW", edge, above), svg("text", { class: "icl-axis", x: inside, y: above }, "right vector: A(x)"),
      ...heat([right], { left: inside, top: second + head, cell, tall, most: most(right) }),
      ...heat(left.map((value) => [value]), { left: edge, top, cell, tall, most: most(left) }),
      ...heat(delta, { left: inside, top, cell, tall, most: most(delta) }),
      svg("path", { class: "icl-exact icl-hollow", d: `M${inside - 5} ${second + head} V${top + block} M${edge} ${top - 5} H${inside + WIDTH * cell}` }),
      ...(patched ? [svg("text", { class: "icl-axis", x: inside, y: top + block + 18 }, "change of the last bias"), title("Δb", edge, top + block + 26 + tall / 2),
        ...heat([bias], { left: inside, top: top + block + 26, cell, tall, most: most([bias]) })] : []));
    const spectrum = (values) => values.map((value) => (value < 1e-12 * solution.sizeW ? "0" : formatNumber(value, 2))).join(", ");
    matricesNote.textContent = `ΔW is its left vector, the column, times its right vector, the row. Singular values of W: ${spectrum(singularW)}; of ΔW: ${spectrum(singular)}, to rounding.`;
    matrices.setAttribute("aria-label", `The matrix W, 6 by 4, and the update, the column (${left.map(entryText).join(", ")}) times the row (${right.map(entryText).join(", ")}), of size ${formatNumber(size, 3)}.`
      + (patched ? ` The last bias changes by (${bias.map(entryText).join(", ")}).` : ""));
  }

  function drawOutputs() {
    const { withContext, changed, without, readWhole, readAlone, hiddenWhole, hiddenChanged, hiddenAlone, fits: good } = solution;
    const same = hiddenWhole.every((value, a) => Math.abs(value - hiddenChanged[a]) < 1e-9 * (1 + Math.abs(value)));
    const table = (element, caption, heads, columns, marked, digits) => element.replaceChildren(
      html("caption", {}, caption),
      html("thead", {}, html("tr", {}, ...heads.map((text) => html("th", { scope: "col" }, text)))),
      html("tbody", {}, ...columns[0].map((_, i) => html("tr", {}, ...columns.map((column, k) =>
        html("td", { class: k === marked ? "icl-changed" : "" }, column[i].toFixed(digits).replace("-", "−")))))));
    table(outputs, "The output at the query, four numbers", ["with context, W", "without, W + ΔW", "without, W"], [withContext, changed, without], good ? -1 : 1, 7);
    outputsNote.textContent = good ? "The first two columns agree digit for digit." : "The framed column should equal the first, and does not.";
    table(fed, "What W is fed at the query", ["A(x), alone", "A(C, x), with context"], [readAlone, readWhole], -1, 6);
    table(hidden, "What comes out of W, six hidden units", ["W A(C, x)", "(W + ΔW) A(x)", "W A(x)"], [hiddenWhole, hiddenChanged, hiddenAlone], same ? -1 : 1, 6);
    hiddenNote.textContent = `${same ? "ΔW is made so that its product with this A(x) is what the context added." : "The kept ΔW was made for another A(x) or another A(C, x)."} `
      + "Any two vectors can be joined like this, as long as A(x) is not 0: the line knows nothing of learning.";
  }

  function drawMap() {
    const { x, y, side, area, lines } = square(map);
    [mapX, mapY] = [x, y];
    const found = errorMap(state, solution);
    const { along, errors, alone } = found;
    const most = Math.max(...errors.flat());
    const step = along[1] - along[0];
    const [wide, tall] = [x(step) - x(0), y(0) - y(step)];
    const hatch = along.flatMap((v, j) => along.map((u, i) => (errors[j][i] < alone[j][i] ? ""
      : `M${(x(u) - wide / 2).toFixed(1)} ${(y(v) + tall / 2).toFixed(1)} l${wide.toFixed(1)} ${(-tall).toFixed(1)}`)));
    const [mx, my] = solution.made.query;
    mapBack.replaceChildren(
      svg("clipPath", { id: mapClip }, svg("rect", { x: area.left, y: area.top, width: side, height: side })),
      ...lines.slice(-2), ...lines.filter((line) => line.matches(".icl-tick")),
      svg("g", { "clip-path": `url(#${mapClip})` },
        ...along.flatMap((v, j) => along.map((u, i) => svg("rect", {
          class: "icl-heat icl-above", x: x(u) - wide / 2, y: y(v) - tall / 2, width: wide + 0.4, height: tall + 0.4, style: `--size:${(most > 0 ? errors[j][i] / most : 0).toFixed(3)}`,
        }))), svg("path", { class: "icl-hatch", d: hatch.join("") })),
      svg("circle", { class: "icl-ring", cx: x(mx), cy: y(my), r: 13 }));
    mapQuery.place(x(state.query[0]), y(state.query[1]), { text: `${place(state.query)}, where the outputs part by ${gapText(solution.gap)}`, now: state.query[1], low: -REACH, high: REACH });
    mapNote.textContent = `${mapSentence(found, solution)}${state.kept.length ? "" : " To see what that means, keep the update and drag the query."}`;
  }

  for (const name of TRAITS) model.on(`change:${name}`, redraw);
  const stop = onResize(root, redraw);
  draw();
  return () => {
    stop();
    redraw.cancel();
    for (const name of TRAITS) model.off(`change:${name}`, redraw);
  };
}

export default { render: renderUpdate };
