"use strict";
// Draws the figures and tables of a report from the data in the page. What is chosen stands in the address after the #,
// so that a link carries it. Every text of the data goes into the page as text, never as markup.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const MISSING = "\u2014", ROWS = 100, MORE = 1000;
  const FILTERS = { run: "run", hardware: "hardware", recipe: "recipe", model: "model", engine: "engine",
    batch: "batch", context_tok: "context" };
  const datasets = Object.fromEntries(Object.entries(page.datasets).map(([name, packed]) => [name, unpacked(packed)]));
  const limits = {}, order = {};
  let drawing = 0, width = 0;

  function unpacked(packed) {
    const rows = Array.from({ length: packed.rows }, () => ({}));
    for (const [name, column] of Object.entries(packed.columns)) {
      rows.forEach((row, n) => {
        row[name] = Array.isArray(column) ? column[n] : "same" in column ? column.same : column.texts[column.at[n]];
      });
    }
    return rows;
  }

  function made(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  // What is chosen: by filter, the values as text; none means all.
  function chosen() {
    const given = new URLSearchParams(location.hash.slice(1));
    return Object.fromEntries(Object.keys(FILTERS).map((name) => [name, new Set(given.getAll(name))]));
  }

  function kept(rows, choice) {
    const asked = Object.entries(choice).filter(([, values]) => values.size);
    return rows.filter((row) => asked.every(([name, values]) => !(name in row) || values.has(String(row[name]))));
  }

  function choices(name) {
    const values = new Set();
    for (const rows of Object.values(datasets)) {
      for (const row of rows) if (row[name] !== undefined && row[name] !== null) values.add(row[name]);
    }
    if (name === "recipe") return page.recipes.filter((recipe) => values.has(recipe));
    return [...values].sort((a, b) => (typeof a === "number" ? a - b : String(a) < String(b) ? -1 : 1));
  }

  function buildFilters() {
    const bar = document.getElementById("filters");
    for (const [name, label] of Object.entries(FILTERS)) {
      const values = choices(name);
      if (values.length < 2) continue;
      const box = made("details", undefined, { class: "filter", "data-filter": name });
      box.append(made("summary", label));
      const list = made("div", undefined, { class: "choices" });
      for (const value of values) {
        const line = made("label");
        const tick = made("input", undefined, { type: "checkbox" });
        tick.value = String(value);
        tick.addEventListener("change", () => {
          const choice = chosen();
          if (tick.checked) choice[name].add(tick.value); else choice[name].delete(tick.value);
          const said = new URLSearchParams();
          for (const [key, texts] of Object.entries(choice)) for (const text of texts) said.append(key, text);
          location.hash = said.toString();
        });
        line.append(tick, made("span", typeof value === "number" ? value.toLocaleString("en") : String(value)));
        list.append(line);
      }
      box.append(list);
      bar.append(box);
    }
    const reset = made("button", "show all", { type: "button", id: "reset" });
    reset.addEventListener("click", () => { location.hash = ""; });
    bar.append(reset, made("output", "", { id: "shown" }));
    document.addEventListener("click", (event) => {
      for (const box of bar.querySelectorAll("details[open]")) if (!box.contains(event.target)) box.open = false;
    });
  }

  function showFilters(choice) {
    for (const box of document.querySelectorAll("#filters details")) {
      const name = box.dataset.filter, values = [...choice[name]];
      box.classList.toggle("on", values.length > 0);
      box.querySelector("summary").textContent = values.length
        ? `${FILTERS[name]}: ${values.length < 3 ? values.join(", ") : values.length}` : FILTERS[name];
      for (const tick of box.querySelectorAll("input")) tick.checked = choice[name].has(tick.value);
    }
    const any = Object.values(choice).some((values) => values.size);
    document.getElementById("reset").hidden = !any;
    const cells = datasets.cells, some = kept(cells, choice).length;
    document.getElementById("shown").textContent =
      `${some.toLocaleString("en")} of ${cells.length.toLocaleString("en")} speed cells`;
    document.body.classList.toggle("narrowed", any);
  }

  function clear(chart) {
    if (chart.finalize) chart.finalize();
    chart.finalize = null;
    chart.replaceChildren();
  }

  // One figure into one place, for so many pixels; the same as `laid_out` does for pictures.
  async function drawInto(chart, figure, rows, panels, room, turn) {
    const layout = page.layout;
    const columns = Math.max(1, Math.min(panels, layout.most_columns, Math.floor(room / layout.least_width)));
    const inner = Math.floor(room / columns) - layout.axis_width;
    const width = Math.max(layout.least_panel, Math.min(layout.most_panel, inner));
    const datasets = { [figure.dataset]: rows };
    const spec = { ...figure.spec, datasets, columns, spec: { ...figure.spec.spec, width } };
    const view = await vegaEmbed(chart, spec, {
      mode: "vega-lite", renderer: "svg", ast: true, config: page.config, logLevel: 1,
      actions: chart.matches(".paper") ? false : { export: true, source: false, compiled: false, editor: false },
      downloadFileName: `fleetbench-${figure.name}`,
    });
    if (turn !== drawing) view.finalize(); else chart.finalize = () => view.finalize();
  }

  // For the screen and, where that is narrower than a sheet of paper or much wider, for paper too.
  async function drawFigure(figure, choice, turn) {
    const place = document.getElementById(`figure-${figure.name}`);
    const [screen, paper] = place.querySelectorAll(".chart"), note = place.querySelector(".note");
    const rows = kept(datasets[figure.dataset], choice)
      .filter((row) => figure.needs.every((name) => row[name] !== null && row[name] !== undefined));
    const panels = new Set(rows.map((row) => row[figure.panels])).size;
    place.classList.toggle("empty", rows.length === 0);
    place.dataset.rows = rows.length;
    clear(screen);
    clear(paper);
    const narrowed = document.body.classList.contains("narrowed") && datasets[figure.dataset].length > 0;
    note.textContent = rows.length === 0 ? (narrowed ? "Nothing of this is among what is chosen." : figure.without)
      : panels > figure.most_panels ? `The first ${figure.most_panels} of ${panels} panels: choose above to see others.` : "";
    if (!rows.length) return;
    const room = screen.clientWidth, other = room < page.layout.paper * 0.9;
    place.classList.toggle("two", other);
    await drawInto(screen, figure, rows, panels, room, turn);
    if (other && turn === drawing) await drawInto(paper, figure, rows, panels, page.layout.paper, turn);
  }

  function written(value, column) {
    if (value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length)) return MISSING;
    if (column.kind === "number") {
      return Number(value).toLocaleString("en",
        { minimumFractionDigits: column.decimals, maximumFractionDigits: column.decimals });
    }
    return Array.isArray(value) ? value.join(column.kind === "long" ? "\n" : ", ") : String(value);
  }

  function cell(row, column) {
    const text = written(row[column.name], column);
    const place = made("td", undefined, { class: column.kind });
    if (column.kind === "long" && text.length > 90) {
      const box = made("details");
      box.append(made("summary", `${text.slice(0, 60)}\u2026`), made("pre", text));
      place.append(box);
    } else {
      place.textContent = text;
      place.classList.toggle("short", column.kind === "text" && text.length <= 28);
    }
    return place;
  }

  function sorted(rows, by) {
    if (!by) return rows;
    const sign = by.down ? -1 : 1;
    return [...rows].sort((left, right) => {
      const [a, b] = [left[by.name], right[by.name]];
      const [no, neither] = [a === null || a === undefined, b === null || b === undefined];
      if (no || neither) return no - neither;
      return sign * (typeof a === "number" ? a - b : String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0);
    });
  }

  function drawTable(table, choice) {
    const place = document.getElementById(`table-${table.name}`);
    const rows = kept(datasets[table.dataset], choice)
      .filter((row) => !table.needs.length || table.needs.some((name) => row[name] !== null && row[name] !== undefined));
    const body = place.querySelector(".rows"), note = place.querySelector(".note");
    place.dataset.rows = rows.length;
    body.replaceChildren();
    note.replaceChildren();
    if (!rows.length) {
      note.textContent = table.without;
      return;
    }
    const grid = made("table"), head = made("tr");
    for (const column of table.columns) {
      const by = order[table.name], here = by && by.name === column.name;
      const title = made("th", undefined, { class: column.kind, scope: "col" });
      if (here) title.setAttribute("aria-sort", by.down ? "descending" : "ascending");
      const button = made("button", column.label, { type: "button" });
      button.addEventListener("click", () => {
        order[table.name] = { name: column.name, down: here ? !by.down : column.kind === "number" };
        drawTable(table, chosen());
      });
      title.append(button);
      head.append(title);
    }
    grid.append(made("thead"), made("tbody"));
    grid.tHead.append(head);
    const most = limits[table.name] || ROWS;
    for (const row of sorted(rows, order[table.name]).slice(0, most)) {
      const line = made("tr");
      for (const column of table.columns) line.append(cell(row, column));
      grid.tBodies[0].append(line);
    }
    body.append(grid);
    if (rows.length > most) {
      note.append(`The first ${most.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows. `);
      const more = made("button", `show ${Math.min(MORE, rows.length - most).toLocaleString("en")} more`, { type: "button" });
      more.addEventListener("click", () => { limits[table.name] = most + MORE; drawTable(table, chosen()); });
      note.append(more);
    }
  }

  async function draw() {
    const choice = chosen(), turn = ++drawing;
    document.body.dataset.state = "drawing";
    width = document.querySelector("main").clientWidth;
    showFilters(choice);
    for (const table of page.tables) drawTable(table, choice);
    for (const figure of page.figures) {
      if (turn !== drawing) return;
      try {
        await drawFigure(figure, choice, turn);
      } catch (error) {
        document.querySelector(`#figure-${figure.name} .note`).textContent = `It could not be drawn: ${error.message}`;
        console.error(error);
      }
    }
    if (turn === drawing) document.body.dataset.state = "drawn";
  }

  buildFilters();
  window.addEventListener("hashchange", draw);
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (document.querySelector("main").clientWidth !== width) draw(); }, 200);
  });
  window.addEventListener("beforeprint", () => {
    for (const box of document.querySelectorAll("details.fold")) box.open = true;
  });
  draw();
})();
