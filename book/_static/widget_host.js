/*
 * Starts the book's interactive components on a static page, with no kernel and no network.
 *
 * A notebook's stored output holds, for each component, a view
 *     <script type="application/vnd.jupyter.widget-view+json">{"model_id": ...}</script>
 * and the page holds once the state of every model
 *     <script type="application/vnd.jupyter.widget-state+json">{"state": {ID: {...}}}</script>
 * This script puts a <div> in the place of each view and runs the component's own module in it
 * (the trait `_esm`, an anywidget front-end module: https://anywidget.dev/en/afm/).
 * The same module runs unchanged in JupyterLab, where anywidget itself is the host.
 *
 * It is a classic script and imports each module through a Blob URL, so that it also works
 * on a page opened from disk. Two views of one model share the model. Models that are not
 * anywidgets (layouts, for example) are ignored; a view of one says that it needs a kernel.
 *
 * For tests and for other scripts: window.iclWidgets = { ready, models, mount, dispose }.
 */
(function () {
  "use strict";

  const STATE_TYPE = "application/vnd.jupyter.widget-state+json";
  const VIEW_TYPE = "application/vnd.jupyter.widget-view+json";
  const NAMES = /\s+/;

  /** Equality of two trait values: JSON values by content, anything else by identity. */
  function same(a, b) {
    if (Object.is(a, b)) return true;
    if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
    if (Array.isArray(a) !== Array.isArray(b)) return false;
    if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
    if (!Array.isArray(a) && Object.getPrototypeOf(a) !== Object.prototype) return false;
    const keys = Object.keys(a);
    return keys.length === Object.keys(b).length
      && keys.every((key) => Object.prototype.hasOwnProperty.call(b, key) && same(a[key], b[key]));
  }

  /** The traits of one component, and who listens to them. Events follow Backbone's, as in Jupyter:
   *  `set` tells listeners of `change:NAME` at once, then those of `change`. */
  class Model {
    constructor(id, state) {
      this.id = id;
      this.state = state;
      this.listeners = [];
      this.changing = false;
      this.pending = false;
    }

    get(name) {
      return this.state[name];
    }

    set(name, value) {
      const values = typeof name === "object" && name !== null ? name : { [name]: value };
      const changed = Object.keys(values).filter((key) => !same(this.state[key], values[key]));
      if (changed.length === 0) return this;
      for (const key of changed) this.state[key] = values[key];
      this.pending = true;
      const outermost = !this.changing;
      this.changing = true;
      try {
        for (const key of changed) this.trigger("change:" + key, this, this.state[key], {});
        while (outermost && this.pending) {
          this.pending = false;
          this.trigger("change", this, {});
        }
      } finally {
        if (outermost) this.changing = this.pending = false;
      }
      return this;
    }

    /** A static page has no kernel: what was set is already shared by every view. */
    save_changes() {}

    /** A static page has no kernel to answer a message. */
    send() {}

    on(names, callback, context) {
      for (const name of String(names).split(NAMES)) {
        this.listeners.push({ name, callback, context });
      }
      return this;
    }

    /** Each of the three may be null or left out, and then matches everything. */
    off(names, callback, context) {
      const which = names == null ? null : String(names).split(NAMES);
      this.listeners = this.listeners.filter((entry) =>
        (which !== null && !which.includes(entry.name))
        || (callback != null && callback !== entry.callback)
        || (context != null && context !== entry.context));
      return this;
    }

    trigger(name, ...values) {
      for (const entry of this.listeners.slice()) {
        if (entry.name !== name || !this.listeners.includes(entry)) continue;
        try {
          entry.callback.apply(entry.context, values);
        } catch (error) {
          console.error(`A listener of "${name}" failed.`, error);
        }
      }
    }
  }

  /** What a component is handed: the model, with its own listeners kept apart from other views'. */
  function proxy(model, context) {
    return {
      get: (name) => model.get(name),
      set: (name, value) => { model.set(name, value); },
      save_changes: () => model.save_changes(),
      send: () => model.send(),
      on: (names, callback) => { model.on(names, callback, context); },
      off: (names, callback) => { model.off(names, callback, context); },
      widget_manager: { get_model: (id) => Promise.resolve(modelNamed(id)) },
    };
  }

  const records = new Map(); // model id -> { model, definition: Promise, stop: AbortController }
  const styles = new Set();
  let known = {};

  function readStates() {
    const found = {};
    for (const script of document.querySelectorAll(`script[type="${STATE_TYPE}"]`)) {
      Object.assign(found, JSON.parse(script.textContent).state);
    }
    return found;
  }

  /** Binary traits are stored beside the state, in base64; a component expects a DataView. */
  function withBuffers(record) {
    const state = structuredClone(record.state);
    for (const { path, data, encoding } of record.buffers || []) {
      if (encoding !== "base64") throw new Error(`its data is stored as "${encoding}"; only base64 is read`);
      const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      const holder = path.slice(0, -1).reduce((inside, key) => inside[key], state);
      holder[path[path.length - 1]] = new DataView(bytes.buffer);
    }
    return state;
  }

  async function importText(text) {
    const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    try {
      return await import(url);
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  function addStyle(id, text) {
    if (!text || styles.has(text)) return;
    styles.add(text);
    const style = document.createElement("style");
    style.dataset.widget = id;
    style.textContent = text;
    document.head.append(style);
  }

  function isAnywidget(record) {
    return record.model_module === "anywidget" && typeof record.state._esm === "string";
  }

  function recordOf(reference) {
    const id = String(reference).replace(/^IPY_MODEL_/, "");
    if (records.has(id)) return records.get(id);
    const stored = known[id];
    if (!stored) throw new Error("its stored state is missing from this page");
    if (!isAnywidget(stored)) {
      throw new Error("it needs a running notebook; open this page in Jupyter to use it");
    }
    const record = { model: new Model(id, withBuffers(stored)), stop: new AbortController() };
    record.definition = (async () => {
      addStyle(stored.state._anywidget_id || id, stored.state._css);
      const module = await importText(stored.state._esm);
      const exported = module.default ?? { render: module.render, initialize: module.initialize };
      const definition = typeof exported === "function" ? await exported() : exported;
      const result = await definition.initialize?.({
        model: proxy(record.model, record), signal: record.stop.signal, experimental,
      });
      if (typeof result === "function") record.cleanup = result;
      return definition;
    })();
    records.set(id, record);
    return record;
  }

  function modelNamed(reference) {
    return proxy(recordOf(reference).model, {});
  }

  const experimental = {
    invoke: () => Promise.reject(new Error("there is no kernel on this page to answer")),
  };

  const views = []; // { el, id, stop, cleanup }

  /** Say in the page, in a sentence, that a component did not start. */
  function explain(el, error) {
    console.error("An interactive component could not start.", error);
    const note = document.createElement("p");
    note.className = "icl-widget-error";
    note.setAttribute("role", "alert");
    const reason = error instanceof Error ? error.message : String(error);
    note.textContent = `This interactive component could not start: ${reason.replace(/\.$/, "")}. `
      + "The rest of the page does not depend on it.";
    el.replaceChildren(note);
    el.dataset.state = "failed";
  }

  /** Run the component with this model id inside `el`. Resolves when it is drawn or has failed. */
  async function mount(id, el) {
    el.dataset.modelId = id;
    el.dataset.state = "starting";
    const view = { el, id, stop: new AbortController() };
    try {
      const record = recordOf(id);
      const definition = await record.definition;
      if (typeof definition.render === "function") {
        const result = await definition.render({
          model: proxy(record.model, view), el, signal: view.stop.signal, experimental,
          host: { getModel: async (reference) => modelNamed(reference) },
        });
        if (typeof result === "function") view.cleanup = result;
      }
      view.model = record.model;
      views.push(view);
      el.dataset.state = "ready";
    } catch (error) {
      explain(el, error);
    }
  }

  async function finish(stop, cleanup) {
    stop.abort();
    try {
      await cleanup?.();
    } catch (error) {
      console.error("An interactive component failed while it was being put away.", error);
    }
  }

  /** Put every view away, then every model, calling the functions that components returned for it. */
  async function dispose() {
    for (const view of views.splice(0)) {
      view.model.off(null, null, view);
      await finish(view.stop, view.cleanup);
      view.el.dataset.state = "disposed";
    }
    for (const record of records.values()) {
      record.model.off(null, null, null);
      await finish(record.stop, record.cleanup);
    }
    records.clear();
  }

  async function start() {
    const waiting = [];
    const places = [];
    for (const script of document.querySelectorAll(`script[type="${VIEW_TYPE}"]`)) {
      const el = document.createElement("div");
      el.className = "icl-widget mathjax_ignore";
      script.replaceWith(el);
      places.push([script, el]);
    }
    if (places.length === 0) return;
    try {
      known = readStates();
    } catch (error) {
      for (const [, el] of places) explain(el, new Error("the page's stored state cannot be read"));
      return;
    }
    for (const [script, el] of places) {
      try {
        waiting.push(mount(JSON.parse(script.textContent).model_id, el));
      } catch (error) {
        explain(el, new Error("its place in the page cannot be read"));
      }
    }
    await Promise.all(waiting);
  }

  const ready = new Promise((resolve) => {
    if (document.readyState === "loading") {
      document.addEventListener("DOMContentLoaded", () => resolve(start()));
    } else {
      resolve(start());
    }
  });
  window.addEventListener("pagehide", (event) => { if (!event.persisted) dispose(); });

  window.iclWidgets = {
    ready,
    models: () => new Map([...records].map(([id, record]) => [id, record.model])),
    mount,
    dispose,
  };
})();
