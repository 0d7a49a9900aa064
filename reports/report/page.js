"use strict";
// Draws the figures and makes the table answer. All texts come from cells and JSON, and are set as text, never as markup.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("data");
  const { config, panels } = read("specs");
  const table = document.getElementById("rows");
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const make = (name, text) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const rows = [...body.rows].map((tr, place) => {
    const cells = Object.fromEntries(headings.map((th, column) => [th.dataset.key, tr.cells[column].textContent]));
    const numbers = Object.fromEntries(data.numbers.map((name, column) => [name, data.rows[place][column]]));
    for (const name of data.texts) numbers[name] = data.words[numbers[name]] ?? null;
    const text = `${cells.workload} ${cells.implementation} ${cells.status}`.toLowerCase();
    return { place, tr, cells, numbers, text, detail: null, button: null };
  });

  // Details: names and words in turn, each by its place among the words.
  const detailsOf = ({ place }) => {
    const texts = data.details[place].map((word) => data.words[word]);
    return texts.flatMap((name, at) => (at % 2 ? [] : [[name, texts[at + 1]]]));
  };
  const open = (row) => {
    const list = make("dl");
    for (const [name, words] of detailsOf(row)) list.append(make("dt", name), make("dd", words));
    const cell = make("td");
    cell.colSpan = headings.length;
    cell.append(list);
    row.detail = make("tr");
    row.detail.className = "detail";
    row.detail.append(cell);
    row.tr.after(row.detail);
  };
  const toggle = (row) => {
    if (row.detail) {
      row.detail.remove();
      row.detail = null;
    } else open(row);
    row.button.setAttribute("aria-expanded", String(row.detail !== null));
  };
  for (const row of rows) {
    const cell = row.tr.cells[0];
    row.button = make("button", cell.textContent);
    row.button.type = "button";
    row.button.setAttribute("aria-expanded", "false");
    row.button.addEventListener("click", () => toggle(row));
    cell.replaceChildren(row.button);
  }

  // Sorting: what is absent stays last, and equal rows keep their order.
  const compare = (one, other, heading) => {
    const { key, number } = heading.dataset;
    if (number === undefined) return one.cells[key] < other.cells[key] ? -1 : one.cells[key] > other.cells[key] ? 1 : 0;
    return one.numbers[number] - other.numbers[number];
  };
  const isAbsent = (row, { key, number }) =>
    number === undefined ? row.cells[key] === "" : row.numbers[number] === null;
  const sortBy = (heading) => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const each of headings) each.setAttribute("aria-sort", each === heading ? (down ? "descending" : "ascending") : "none");
    const known = rows.filter((row) => !isAbsent(row, heading.dataset));
    known.sort((one, other) => (down ? -1 : 1) * compare(one, other, heading) || one.place - other.place);
    for (const row of [...known, ...rows.filter((row) => isAbsent(row, heading.dataset))]) {
      body.append(row.tr);
      if (row.detail) body.append(row.detail);
    }
  };
  for (const heading of headings) {
    const button = make("button", heading.textContent);
    button.type = "button";
    button.addEventListener("click", () => sortBy(heading));
    heading.setAttribute("aria-sort", "none");
    heading.replaceChildren(button);
  }

  // Filters
  const [op, status, text, count] = ["op", "status", "text", "count"].map((id) => document.getElementById(id));
  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits =
        (!op.value || row.numbers.op === op.value) &&
        (!status.value || row.cells.status === status.value) &&
        words.every((word) => row.text.includes(word));
      row.tr.hidden = !fits;
      if (row.detail) row.detail.hidden = !fits;
      shown += fits;
    }
    count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  };
  op.form.hidden = false;
  op.form.addEventListener("submit", (event) => event.preventDefault());
  for (const each of [op, status, text]) each.addEventListener("input", filter);
  filter();

  // Figures
  const points = rows.map((row) => ({ ...row.cells, ...row.numbers, why: Object.fromEntries(detailsOf(row)).napkin }));
  const draw = async (element) => {
    const panel = panels[Number(element.dataset.panel)];
    const spec = { ...panel, datasets: { ...panel.datasets, rows: points } };
    await window.vegaEmbed(element, spec, { mode: "vega-lite", renderer: "svg", actions: false, config });
    element.dataset.drawn = "yes";
  };
  for (const element of document.querySelectorAll("[data-panel]")) draw(element);
})();
