"use strict";
// Sends what the controls say, and shows what comes back. It computes nothing: every number, text and row of a chart is
// an answer of the server. Texts are set as text, never as markup.
(() => {
  const page = JSON.parse(document.getElementById("page").textContent);
  const { config, shared, shape, controls, sections, charts } = page;
  const DROPPED = ["config", "file"];
  const make = (name, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  // The state: the text of each control that is not at its default.
  let state = new Map();
  const readAddress = () => new Map([...new URLSearchParams(location.search)].filter(([name]) => name in controls || DROPPED.includes(name)));
  const textOf = (name) => state.get(name) ?? controls[name].default;
  const set = (name, text) => {
    if (text === "" || text === controls[name].default) state.delete(name);
    else state.set(name, text);
  };
  const queryOf = (names) => {
    const query = new URLSearchParams();
    for (const name of [...names, ...DROPPED]) if (state.has(name)) query.set(name, state.get(name));
    return query.toString();
  };
  const remember = () => {
    const query = queryOf(Object.keys(controls));
    const address = `${location.pathname}${query ? `?${query}` : ""}${location.hash}`;
    if (address !== `${location.pathname}${location.search}${location.hash}`) history.pushState(null, "", address);
  };

  // Controls: some stand in several places, and all of them say the same.
  const places = new Map(Object.keys(controls).map((name) => [name, []]));
  const offered = new Map(Object.entries(controls).map(([name, { stops }]) => [name, { stops, shown: "" }]));
  // Where a slider stands beside a text that is none of its stops; what is asked is the text.
  const SUFFIXES = { k: 1024, m: 1048576, b: 1e9, t: 1e12, "%": 0.01 };
  const sizeOf = (text) => Number.parseFloat(text) * (SUFFIXES[text.trim().slice(-1).toLowerCase()] ?? 1);
  const nearest = (stops, text) => {
    const exact = stops.indexOf(text);
    if (exact >= 0) return exact;
    const size = sizeOf(text);
    const far = stops.map((stop) => Math.abs(sizeOf(stop) - size)).map((each) => (Number.isNaN(each) ? Infinity : each));
    return Math.max(0, far.indexOf(Math.min(...far)));
  };
  const show = (name, except) => {
    const { stops, shown } = offered.get(name);
    const text = textOf(name);
    for (const { range, input, select } of places.get(name)) {
      if (select && select !== except) select.value = text || (shown && [...select.options].some((option) => option.value === shown) ? shown : "");
      if (range && range !== except) {
        range.max = String(Math.max(0, stops.length - 1));
        range.value = String(nearest(stops, text || shown));
      }
      if (range) range.setAttribute("aria-valuetext", text || shown || "as the model has it");
      if (input && input !== except && input !== document.activeElement) input.value = text;
      if (input) input.placeholder = shown;
    }
  };
  const changed = (name, text, source, isDone) => {
    set(name, text);
    show(name, source);
    if (isDone) remember();
    refresh();
  };
  for (const element of document.querySelectorAll("[data-control]")) {
    const name = element.dataset.control;
    const place = {
      element,
      range: element.querySelector('input[type="range"]'),
      input: element.querySelector('input[type="text"]'),
      select: element.querySelector("select"),
    };
    places.get(name).push(place);
    place.range?.addEventListener("input", () => {
      const stop = offered.get(name).stops[Number(place.range.value)] ?? "";
      changed(name, stop === offered.get(name).shown && controls[name].stops.length === 0 ? "" : stop, place.range, false);
    });
    place.range?.addEventListener("change", remember);
    place.input?.addEventListener("change", () => changed(name, place.input.value.trim(), place.input, true));
    place.select?.addEventListener("change", () => {
      if (name === "model") for (const each of shape) state.delete(each); // which was another model's
      changed(name, place.select.value, place.select, true);
    });
  }
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  // What an answer says of a control: where it stands in another section, that one says whether it matters there.
  const offer = (pane, name, { shown, stops, choices }) => {
    const before = offered.get(name);
    offered.set(name, { shown: shown || before.shown, stops: stops.length ? stops : before.stops });
    for (const { element, select } of places.get(name)) {
      const section = element.closest("[data-section]");
      if (!section || section === pane.element) element.classList.toggle("absent", !shown && !stops.length && !choices.length);
      if (select && choices.length) {
        const same = choices.length === select.options.length && choices.every(([value, text], at) => select.options[at].value === value && select.options[at].text === text);
        if (!same) select.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
      }
    }
    show(name);
  };

  // Answers
  const panes = new Map([...document.querySelectorAll("[data-section]")].map((element) => [element.dataset.section, { element, name: element.dataset.section, asked: null, isVisible: false, isBusy: false, views: new Map() }]));
  const part = (pane, selector) => pane.element.querySelector(selector);
  const fail = (pane, text) => {
    const error = part(pane, ".error");
    error.textContent = text;
    error.hidden = false;
    pane.element.classList.add("is-stale");
  };
  const numberRow = (answer, [key, label, text, value, formula, arithmetic, command]) => {
    const row = make("tr");
    const name = make("th", label);
    name.scope = "row";
    if (answer.commands.length > 1) name.append(make("span", `(${command + 1})`, "by"));
    const how = make("td", formula);
    if (arithmetic && arithmetic !== text) how.append(make("span", `= ${arithmetic}`, "with"));
    row.append(name, make("td", text), how);
    Object.assign(row.dataset, { key, command: String(command), value: JSON.stringify(value) });
    return row;
  };
  const showNumbers = (pane, answer) => {
    const rows = [];
    let group = "";
    for (const number of answer.numbers) {
      if (number[7] && number[7] !== group) {
        group = number[7];
        const heading = make("th", group);
        heading.colSpan = 3;
        heading.scope = "rowgroup";
        const row = make("tr");
        row.append(heading);
        rows.push(row);
      }
      rows.push(numberRow(answer, number));
    }
    part(pane, ".numbers").hidden = rows.length === 0;
    part(pane, ".numbers tbody").replaceChildren(...rows);
  };
  const showGrid = ([title, headings, rows, remark]) => {
    const table = make("table");
    const top = table.createTHead().insertRow();
    for (const heading of headings) {
      const cell = make("th", heading);
      cell.scope = "col";
      top.append(cell);
    }
    const body = table.createTBody();
    for (const cells of rows) body.insertRow().append(...cells.map((cell) => make("td", cell)));
    const scroll = make("div", undefined, "scroll");
    scroll.append(table);
    return [make("h3", title), scroll, ...(remark ? [make("p", remark, "quiet")] : [])];
  };
  const draw = async (pane, name, data) => {
    const figure = part(pane, `[data-chart="${name}"]`);
    const { spec, rows } = charts[name];
    figure.classList.toggle("is-empty", !(data[name] ?? []).length);
    if (!(data[name] ?? []).length) return;
    const view = pane.views.get(name);
    if (view) {
      for (const each of rows) if (view.known.has(each)) view.it.data(each, data[each] ?? []);
      await view.it.runAsync();
      return;
    }
    const used = JSON.stringify(spec);
    const known = new Set(rows.filter((each) => used.includes(`{"name":"${each}"}`)));
    const datasets = Object.fromEntries([...known].map((each) => [each, data[each] ?? []]));
    const { view: it } = await window.vegaEmbed(figure.querySelector(".chart"), { ...spec, datasets }, { mode: "vega-lite", renderer: "svg", actions: false, config });
    pane.views.set(name, { it, known });
    figure.dataset.drawn = "yes";
  };
  const showAnswer = async (pane, answer) => {
    part(pane, ".error").hidden = true;
    pane.element.classList.remove("is-stale");
    pane.element.classList.toggle("is-alarm", answer.alarm);
    part(pane, ".says").replaceChildren(...answer.says.map((text) => make("p", text)));
    showNumbers(pane, answer);
    part(pane, ".grids").replaceChildren(...answer.grids.flatMap(showGrid));
    part(pane, ".commands pre").textContent = answer.commands.map((text, at) => (answer.commands.length > 1 ? `${text}  # (${at + 1})` : text)).join("\n");
    part(pane, ".notes").hidden = answer.notes.length === 0;
    part(pane, ".notes ul").replaceChildren(...answer.notes.map((text) => make("li", text)));
    for (const [name, found] of Object.entries(answer.controls)) offer(pane, name, found);
    for (const figure of pane.element.querySelectorAll("[data-chart]")) await draw(pane, figure.dataset.chart, answer.data);
  };
  const ask = async (pane) => {
    if (pane.isBusy) return;
    pane.isBusy = true;
    try {
      while (pane.isVisible) {
        const query = queryOf([...shared, ...sections[pane.name]]);
        if (query === pane.asked) break;
        pane.asked = query;
        delete pane.element.dataset.answered;
        let reply;
        let answer;
        try {
          reply = await fetch(`answer/${pane.name}${query ? `?${query}` : ""}`);
          answer = await reply.json();
        } catch {
          fail(pane, "The server does not answer: is `napkin-bench explore` still running?");
          pane.asked = null; // the next move asks again
          break;
        }
        if (reply.ok) await showAnswer(pane, answer);
        else fail(pane, answer.error);
        if (reply.status === 410) showDropped(answer.error);
        if (reply.status === 503) pane.asked = null; // it was busy, or too long: the next move asks again
        pane.element.dataset.answered = query || "-";
      }
    } finally {
      pane.isBusy = false;
    }
  };
  const refresh = () => {
    for (const pane of panes.values()) if (pane.isVisible) ask(pane);
  };
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) panes.get(target.dataset.section).isVisible = isIntersecting;
      refresh();
    },
    { rootMargin: "300px" },
  );
  for (const { element } of panes.values()) watch.observe(element);
  // A section that is answered above what is read grows there: what is read keeps its place.
  const heights = new Map();
  const keep = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const { top, height } = target.getBoundingClientRect();
      const before = heights.get(target) ?? height;
      heights.set(target, height);
      if (height !== before && top + before < innerHeight / 2) scrollBy({ top: height - before, behavior: "instant" });
    }
  });
  for (const { element } of panes.values()) keep.observe(element);
  for (const pane of panes.values()) {
    const button = part(pane, ".copy");
    button.addEventListener("click", async () => {
      const text = part(pane, ".commands pre").textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(part(pane, ".commands pre"));
        button.textContent = "Selected: copy it";
      }
      setTimeout(() => (button.textContent = "Copy as command"), 1500);
    });
  }

  // A config.json of the user's own
  const file = document.getElementById("config-file");
  const told = document.getElementById("dropped");
  const undrop = document.getElementById("undrop");
  const showDropped = (text) => {
    undrop.hidden = !state.has("config");
    for (const { select } of places.get("model")) select.disabled = state.has("config");
    told.textContent = text ?? (state.has("config") ? `${state.get("file")} is used in place of the model of the list` : "or drop one onto the page: it stays on this machine");
  };
  const take = async (one) => {
    if (!one) return;
    let reply;
    let found;
    try {
      reply = await fetch(`config?name=${encodeURIComponent(one.name)}`, { method: "POST", body: one });
      found = await reply.json();
    } catch {
      showDropped("The file could not be sent to the server.");
      return;
    }
    if (!reply.ok) {
      showDropped(found.error);
      return;
    }
    for (const name of shape) state.delete(name);
    state.set("config", found.config);
    state.set("file", one.name);
    remember();
    showAll();
    showDropped(`${one.name}: ${found.model}`);
    refresh();
  };
  file.addEventListener("change", () => take(file.files[0]));
  undrop.addEventListener("click", () => {
    for (const name of DROPPED) state.delete(name);
    file.value = "";
    remember();
    showDropped();
    refresh();
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    take(event.dataTransfer.files[0]);
  });

  const showAll = () => {
    for (const name of Object.keys(controls)) show(name);
  };
  const restore = () => {
    state = readAddress();
    showAll();
    showDropped();
    refresh();
  };
  addEventListener("popstate", restore);
  restore();
})();
