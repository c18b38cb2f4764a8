// Predict, then run: the reader commits to a guess before the experiment and meets it again after.
// The question (role "ask") and the answer (role "reveal") are two components with one key; they
// find each other through events on the document, and the guess is kept in localStorage.
import {
  button, clamp, component, html, linearScale, onResize, oncePerFrame, shortNumber, svg, uniqueId,
} from "./parts.mjs";

const EVENT = "icl-lessons:prediction";
const storageKey = (key) => `icl-lessons:prediction:${key}`;

/** Guesses and answers of this page, by key; shared by all components on it. */
const board = (globalThis.iclLessonsPredictions ??= new Map());

function record(key) {
  if (!board.has(key)) board.set(key, { guess: remembered(key), answer: null, explanation: "", shown: false });
  return board.get(key);
}

function remembered(key) {
  try {
    const text = localStorage.getItem(storageKey(key));
    return text === null ? null : JSON.parse(text);
  } catch {
    return null; // no storage here (a private window, a file, a sandbox): the guess lasts as long as the page
  }
}

function remember(key, guess) {
  try {
    if (guess === null) localStorage.removeItem(storageKey(key));
    else localStorage.setItem(storageKey(key), JSON.stringify(guess));
  } catch {
    // as above
  }
}

/** How a guess compares with a measured number, in words. `signed`: a share of it means little. */
export function compareNumbers(guess, answer, { log = false, signed = false, unit = "" } = {}) {
  if (guess === answer) return "You guessed it exactly.";
  const side = guess > answer ? "high" : "low";
  if (log && guess > 0 && answer > 0) {
    const ratio = Math.max(guess / answer, answer / guess);
    if (ratio < 1.05) return "Your guess is within 5 % of it.";
    return `Your guess is ${shortNumber(ratio, ratio < 10 ? 1 : 0)} times too ${side}.`;
  }
  const gap = readable(Math.abs(guess - answer));
  if (unit === "%") return `Your guess is ${gap} percentage point${gap === "1" ? "" : "s"} too ${side}.`;
  const share = Math.abs(guess - answer) / Math.abs(answer);
  if (signed || answer === 0 || share >= 2) return `Your guess is ${gap} too ${side}.`;
  return share < 0.01 ? "Your guess is within 1 % of it." : `Your guess is ${shortNumber(100 * share, 0)} % too ${side}.`;
}

/** Three significant digits. */
export function readable(value) {
  if (value === 0) return "0";
  const digits = clamp(2 - Math.floor(Math.log10(Math.abs(value))), 0, 6);
  return shortNumber(Number(value.toPrecision(3)), digits);
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const key = get("key");
  const entry = record(key);
  const asks = get("role") === "ask";
  const isNumber = get("kind") === "number";
  const withUnit = (value) => (isNumber ? `${readable(value)}${get("unit") ? ` ${get("unit")}` : ""}` : value);
  const tell = () => document.dispatchEvent(new CustomEvent(EVENT, { detail: { key } }));
  const valid = (guess) => (isNumber ? Number.isFinite(guess) : get("choices").includes(guess));
  if (entry.guess !== null && !valid(entry.guess)) entry.guess = null;
  let arrived = false; // the reader has just acted here: move the focus to what follows

  const body = html("div", {});
  const status = html("div", { "aria-live": "polite" });
  const root = component("icl-prediction", asks ? "Predict, then run: your guess" : "Predict, then run: the answer",
    html("p", { class: "icl-eyebrow" }, asks ? "Predict, then run" : "Your guess and the measurement"),
    html("p", { class: "icl-question" }, get("question")), body, status);
  el.append(root);

  function commit(guess) {
    entry.guess = guess;
    entry.shown = false;
    remember(key, guess);
    arrived = true;
    tell();
  }
  function again() {
    entry.guess = null;
    entry.shown = false;
    remember(key, null);
    arrived = true;
    tell();
  }

  function numberForm() {
    const id = uniqueId("guess");
    const problem = html("p", { class: "icl-problem", role: "alert" });
    const input = html("input", { type: "number", id, step: "any", inputmode: "decimal" });
    const [low, high, log] = [get("low"), get("high"), get("log")];
    const parts = [html("div", {}, html("label", { for: id }, "Your guess"),
      html("div", { class: "icl-unit" }, input, get("unit")))];
    if (low !== null && high !== null) {
      const toValue = (share) => (log ? low * (high / low) ** share : low + (high - low) * share);
      const toShare = (value) => clamp(log ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low), 0, 1);
      const range = html("input", { type: "range", min: 0, max: 1, step: 0.005, value: 0.5, "aria-label": "Your guess, as a slider", "aria-valuetext": "not chosen yet" });
      const track = html("div", { class: "icl-track icl-unset" }, range);
      const paint = (text) => { track.classList.remove("icl-unset"); track.style.setProperty("--filled", range.value); range.setAttribute("aria-valuetext", text); };
      range.addEventListener("input", () => {
        const value = Number(toValue(Number(range.value)).toPrecision(3));
        input.value = value;
        paint(readable(value));
      });
      input.addEventListener("input", () => {
        if (!Number.isFinite(input.valueAsNumber)) return;
        range.value = toShare(input.valueAsNumber);
        paint(readable(input.valueAsNumber));
      });
      parts.push(html("div", {}, track, html("div", { class: "icl-label icl-note", "aria-hidden": "true" },
        html("span", {}, readable(low)), html("span", {}, readable(high)))));
    }
    const form = html("form", { novalidate: true }, html("div", { class: "icl-guess" }, ...parts),
      html("div", { class: "icl-bar icl-tight" }, html("button", { type: "submit", class: "icl-button icl-commit" }, "This is my guess")), problem);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (Number.isFinite(input.valueAsNumber)) commit(input.valueAsNumber);
      else {
        problem.textContent = low === null ? "Type a number first." : "Type a number or move the slider first.";
        input.focus();
      }
    });
    return form;
  }

  function choiceForm() {
    const name = uniqueId("choice");
    const problem = html("p", { class: "icl-problem", role: "alert" });
    const radios = get("choices").map((choice) => html("input", { type: "radio", name, value: choice }));
    const form = html("form", { novalidate: true },
      html("fieldset", { class: "icl-choices" }, html("legend", { class: "icl-hidden" }, "Your guess"),
        ...radios.map((radio) => html("label", {}, radio, html("span", {}, radio.value)))),
      html("div", { class: "icl-bar icl-tight" }, html("button", { type: "submit", class: "icl-button icl-commit" }, "This is my guess")), problem);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const chosen = radios.find((radio) => radio.checked);
      if (chosen) commit(chosen.value);
      else {
        problem.textContent = "Choose one of them first.";
        radios[0].focus();
      }
    });
    return form;
  }

  const line = (...children) => html("p", { class: "icl-result" }, ...children);

  /** Guess and answer on one line, where the question has a range. */
  function scaleFigure() {
    const figure = svg("svg", { class: "icl-plot", "aria-hidden": "true", height: 92 });
    const width = Math.max(body.clientWidth || 0, 240);
    const [guess, answer] = [entry.guess, entry.answer];
    const log = get("log") && answer > 0 && (guess === null || guess > 0);
    const map = (value) => (log ? Math.log10(value) : value);
    const values = [get("low"), get("high"), answer, ...(guess === null ? [] : [guess])].map(map);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const scale = linearScale(least, most, 28, width - 28);
    const at = (value) => scale(map(value));
    const y = 46;
    const name = (value, text, up) => svg("text", {
      class: "icl-axis icl-strong", x: clamp(at(value), 62, width - 62), y: up ? y - 18 : y + 30, "text-anchor": "middle",
    }, text);
    figure.setAttribute("width", width);
    figure.setAttribute("viewBox", `0 0 ${width} 92`);
    figure.append(svg("line", { class: "icl-scale", x1: scale(least), x2: scale(most), y1: y, y2: y }),
      ...[least, most].flatMap((end) => [svg("line", { class: "icl-scale", x1: scale(end), x2: scale(end), y1: y - 6, y2: y + 6 }),
        svg("text", { class: "icl-tick", x: scale(end), y: y + 44, "text-anchor": "middle" }, readable(log ? 10 ** end : end))]));
    if (guess !== null) figure.append(svg("circle", { class: "icl-guess-ring", cx: at(guess), cy: y, r: 9 }), name(guess, `your guess ${readable(guess)}`, true));
    figure.append(svg("circle", { class: "icl-answer-dot", cx: at(answer), cy: y, r: 5 }), name(answer, `measured ${readable(answer)}`, false));
    return figure;
  }

  function comparison() {
    const { guess, answer } = entry;
    const nodes = [];
    const hasGuess = guess !== null;
    if (isNumber && get("low") !== null) nodes.push(scaleFigure());
    nodes.push(hasGuess
      ? line("You guessed ", html("strong", {}, isNumber ? readable(guess) : guess), ", measured: ", html("strong", {}, withUnit(answer)), ". ",
        isNumber ? compareNumbers(guess, answer, { log: get("log"), signed: get("low") < 0, unit: get("unit") })
          : guess === answer ? "It went as you predicted." : "It went another way than you predicted.")
      : line("You did not guess. Measured: ", html("strong", {}, withUnit(answer)), "."));
    if (entry.explanation) nodes.push(line(entry.explanation));
    return nodes;
  }

  function draw() {
    const hasGuess = entry.guess !== null;
    const answered = entry.answer !== null;
    const tools = [];
    let kind;
    let message = [];
    if (asks && !hasGuess && !entry.shown) {
      kind = "asking";
      if (root.dataset.state !== "asking") body.replaceChildren(isNumber ? numberForm() : choiceForm());
    } else {
      const open = answered && (hasGuess || entry.shown);
      body.replaceChildren();
      if (open) {
        kind = hasGuess ? "compared" : "shown";
        message = comparison();
      } else if (hasGuess) {
        kind = "committed";
        message = [line("You guessed ", html("strong", {}, withUnit(entry.guess)), "."), line(asks
          ? "Read on and run the experiment; the answer will appear here beside your guess."
          : "The measurement is not there yet: run the cells above.")];
      } else {
        kind = "waiting";
        message = [line(`You have not guessed yet. A guess is worth more before you see the ${isNumber ? "number" : "answer"}.`)];
        tools.push(button("Go back and guess", goBack), button("Show me anyway", () => {
          entry.shown = true;
          arrived = true;
          tell();
        }));
      }
      if (hasGuess || (asks && entry.shown)) tools.push(button("Guess again", again));
      if (!asks && hasGuess && !asker()) tools.pop();
    }
    status.replaceChildren(...message);
    if (tools.length) status.append(html("div", { class: "icl-bar icl-tight" }, ...tools));
    root.dataset.state = kind;
    if (hasGuess) root.dataset.guess = String(entry.guess); else delete root.dataset.guess;
    if (kind === "compared" || kind === "shown") root.dataset.answer = String(entry.answer); else delete root.dataset.answer;
    if (arrived) {
      arrived = false;
      const next = kind === "asking" ? body.querySelector("input") : status.querySelector("button");
      (next ?? root).focus({ preventScroll: true });
    }
  }

  const asker = () => [...document.querySelectorAll(".icl-prediction[data-role='ask']")].find((one) => one.dataset.key === key);
  function goBack() {
    const target = asker();
    if (!target) {
      status.append(line("The question stands earlier in the notebook; show its cell first."));
      return;
    }
    target.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    target.querySelector("input")?.focus({ preventScroll: true });
  }

  root.dataset.role = asks ? "ask" : "reveal";
  root.dataset.key = key;
  const redraw = oncePerFrame(draw);
  const heard = (event) => {
    if (event.detail?.key !== key) return;
    if (asks && model.get("guess") !== entry.guess) {
      model.set("guess", entry.guess);
      model.save_changes();
    }
    draw();
  };
  const learn = () => {
    entry.answer = get("answer");
    entry.explanation = get("explanation");
    tell();
  };
  document.addEventListener(EVENT, heard);
  const stop = onResize(root, () => { if (root.dataset.state !== "asking") redraw(); });
  if (asks) {
    heard({ detail: { key } });
  } else {
    model.on("change:answer", learn);
    model.on("change:explanation", learn);
    draw();
    learn();
  }
  return () => {
    stop();
    redraw.cancel();
    document.removeEventListener(EVENT, heard);
    if (!asks) {
      model.off("change:answer", learn);
      model.off("change:explanation", learn);
    }
  };
}

export default { render };
