// Sweeps: the chosen quantity over two chosen axes, as a heat map, lines and a table; drawn anew at every choice.
const SVG = "http://www.w3.org/2000/svg";
const make = (name, attributes = {}, text = "") => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};
const html = (name, text = "", attributes = {}) => Object.assign(document.createElement(name), { textContent: text }, attributes);
const shown = (value) => (value === null ? "–" : String(Number(value.toPrecision(4))));
const words = (name) => ({ width: "width N", temperature: "temperature T" })[name] ?? name.replaceAll("_", " ");
const MARKS = { theory: "line", "GP limit": "dashes", "exact posterior": "dot", "weight samples": "square", value: "dot" };

for (const section of document.querySelectorAll("section.sweep")) {
  const { axes, quantities } = JSON.parse(section.querySelector("script.data").textContent);
  const part = (name) => section.querySelector(name);
  const choice = { quantity: Object.keys(quantities)[0], source: null, x: "width", y: "temperature", at: {} };

  // The mean over what is left open of one source at given axis indices: all seeds, or the label chosen.
  const look = (source, place) => {
    const { dims, values, errors } = source;
    let found = [[0]];
    let open = 1;
    let index = [0];
    for (const dim of dims) {
      const picked = dim in place ? [place[dim]] : choice.at[dim] === "mean" ? axes[dim].map((_, i) => i) : [choice.at[dim]];
      open *= picked.length;
      index = index.flatMap((before) => picked.map((i) => before * axes[dim].length + i));
    }
    const finite = index.filter((i) => values[i] !== null);
    if (!finite.length) return { mean: null, error: null, count: 0, open };
    const mean = finite.reduce((sum, i) => sum + values[i], 0) / finite.length;
    const spread = Math.sqrt(finite.reduce((sum, i) => sum + (values[i] - mean) ** 2, 0) / (finite.length - 1));
    const error = open > 1 ? (finite.length > 1 ? spread : null) : errors ? errors[index[0]] : null;
    return { mean, error, count: finite.length, open };
  };
  const where = (i, j) => `${words(choice.x)} = ${axes[choice.x][i]}, ${words(choice.y)} = ${axes[choice.y][j]}`;
  const say = ({ mean, error, count, open }) => {
    if (mean === null) return "not finished";
    return shown(mean) + (error === null ? "" : ` ± ${shown(error)}`) + (count < open ? ` (${count} of ${open} seeds)` : "");
  };

  const select = (name, label, options, value, chosen) => {
    const box = html("select", "", { name });
    for (const [key, text] of options) box.append(html("option", text, { value: key, selected: String(key) === String(value) }));
    box.addEventListener("change", () => {
      chosen(box.value);
      draw(name);
    });
    const whole = html("label", label + " ");
    whole.append(box);
    return whole;
  };
  const settle = () => {
    const sources = quantities[choice.quantity];
    if (!(choice.source in sources)) choice.source = Object.keys(sources)[0];
    const dims = sources[choice.source].dims;
    if (!dims.includes(choice.x)) choice.x = dims.find((dim) => dim !== choice.y);
    if (!dims.includes(choice.y)) choice.y = dims.find((dim) => dim !== choice.x);
    for (const dim of Object.keys(axes)) choice.at[dim] ??= dim === "seed" && axes[dim].length > 1 ? "mean" : 0;
    return dims;
  };
  const controls = (dims, focus) => {
    const names = (list) => list.map((name) => [name, words(name)]);
    const axis = (one, other) => (value) => {
      if (value === choice[other]) choice[other] = choice[one];
      choice[one] = value;
    };
    const all = [
      select("quantity", "quantity", names(Object.keys(quantities)), choice.quantity, (v) => (choice.quantity = v)),
      ...(choice.source === "value" ? [] : [select("source", "map of", names(Object.keys(quantities[choice.quantity])), choice.source, (v) => (choice.source = v))]),
      select("x", "x axis", names(dims), choice.x, axis("x", "y")),
      select("y", "y axis", names(dims), choice.y, axis("y", "x")),
    ];
    for (const dim of Object.keys(axes)) {
      if (dim === choice.x || dim === choice.y || axes[dim].length < 2) continue;
      const labels = axes[dim].map((label, i) => [i, label]);
      if (dim === "seed") labels.unshift(["mean", "mean"]);
      all.push(select(dim, words(dim), labels, choice.at[dim], (v) => (choice.at[dim] = v === "mean" ? v : Number(v))));
    }
    part(".choices").replaceChildren(...all);
    if (focus) part(`select[name="${focus}"]`)?.focus();
  };

  const heatMap = (grid, name) => {
    const svg = part(".sweep-map"), X = axes[choice.x], Y = axes[choice.y];
    const finite = grid.flat().map((value) => value.mean).filter((mean) => mean !== null);
    const low = Math.min(...finite), high = Math.max(...finite);
    const cell = Math.max(12, Math.min(64, 640 / X.length)), tall = Math.max(14, Math.min(40, 480 / Y.length));
    const left = 14 + 7 * Math.max(...Y.map((label) => Math.min(24, String(label).length)), words(choice.y).length);
    const width = Math.max(left + cell * X.length + 20, 320), bottom = 24 + tall * Y.length;
    svg.replaceChildren(make("text", { class: "row", x: left - 6, y: 14 }, words(choice.y)));
    grid.forEach((row, j) => {
      const y = 24 + tall * (Y.length - 1 - j); // the first label at the bottom, as on an axis
      if (tall >= 14) svg.append(make("text", { class: "row", x: left - 6, y: y + tall / 2 + 4 }, String(Y[j]).slice(0, 24)));
    });
    for (let row = Y.length - 1; row >= 0; row--) {
      X.forEach((_, i) => {
        const value = grid[row][i], y = 24 + tall * (Y.length - 1 - row);
        const share = value.mean === null ? 0 : high > low ? (value.mean - low) / (high - low) : 1;
        const group = make("g", { class: "cell" });
        group.dataset.label = `${name}, ${where(i, row)}: ${say(value)}`;
        const fill = value.mean === null ? "none" : `color-mix(in srgb, var(--level) ${(8 + 92 * share).toFixed(0)}%, var(--card))`;
        group.append(make("rect", { x: left + i * cell, y, width: cell - 1, height: tall - 1, style: `fill: ${fill}; pointer-events: all` }));
        if (cell >= 44) group.append(make("text", { class: share > 0.65 ? "value strong" : "value", x: left + (i + 0.5) * cell, y: y + tall / 2 + 4 }, value.mean === null ? "–" : Number(value.mean.toPrecision(3))));
        group.append(make("title", {}, group.dataset.label));
        svg.append(group);
      });
    }
    const step = Math.ceil(44 / cell);
    X.forEach((label, i) => i % step || svg.append(make("text", { class: "tick", x: left + (i + 0.5) * cell, y: bottom + 14 }, String(label).slice(0, 24))));
    svg.append(make("text", { class: "tick", x: left + (cell * X.length) / 2, y: bottom + 32 }, words(choice.x)));
    svg.setAttribute("viewBox", `0 0 ${width} ${bottom + 40}`);
    svg.setAttribute("width", width);
    svg.setAttribute("aria-label", `${name} over ${words(choice.x)} and ${words(choice.y)}, heat map`);
    svg.dataset.columns = X.length;
    readable(svg);
    const range = finite.length ? `colours from ${shown(low)} (faint) to ${shown(high)} (full)` : "no point is finished here";
    part(".map-caption").textContent = `${name}: ${range}; an empty cell is not finished.`;
  };

  const lines = () => {
    const svg = part(".sweep-lines"), X = axes[choice.x], Y = axes[choice.y];
    const sources = Object.entries(quantities[choice.quantity]).filter(([, s]) => s.dims.includes(choice.x) && s.dims.includes(choice.y));
    const [W, H, left, right, top, bottom] = [660, 320, 62, 14, 10, 46];
    const numeric = X.every((label) => typeof label === "number");
    const log = numeric && Math.min(...X) > 0 && Math.max(...X) / Math.min(...X) > 5;
    const along = numeric ? X.map((label) => (log ? Math.log(label) : label)) : X.map((_, i) => i);
    const [first, last] = [Math.min(...along), Math.max(...along)];
    const px = (i) => left + 14 + (W - left - right - 28) * (last > first ? (along[i] - first) / (last - first) : 0.5);
    const all = sources.flatMap(([name, source]) => Y.map((_, j) => ({ name, j, values: X.map((_, i) => look(source, { [choice.x]: i, [choice.y]: j })) })));
    const ends = all.flatMap(({ values }) => values.filter((v) => v.mean !== null).flatMap((v) => [v.mean - (v.error ?? 0), v.mean + (v.error ?? 0)]));
    svg.replaceChildren();
    let [low, high] = ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
    if (high - low < 1e-12) [low, high] = [low - 0.5, high + 0.5];
    const size = 10 ** Math.floor(Math.log10((high - low) / 3)), tick = size * [1, 2, 5, 10].find((m) => (high - low) / (m * size) <= 6);
    [low, high] = [Math.floor(low / tick) * tick, Math.ceil(high / tick) * tick];
    const py = (value) => top + (H - top - bottom) * (1 - (value - low) / (high - low));
    for (let level = low; level < high + tick / 2; level += tick) {
      svg.append(make("line", { class: "grid", x1: left, x2: W - right, y1: py(level), y2: py(level) }));
      svg.append(make("text", { class: "row", x: left - 6, y: py(level) + 4 }, shown(Number(level.toPrecision(6)))));
    }
    let free = -Infinity;
    X.map((label, i) => [px(i), String(label).slice(0, 16)]).sort((a, b) => a[0] - b[0]).forEach(([x, label]) => {
      const half = 4 + 3.5 * label.length;
      if (x - half < free) return;
      free = x + half;
      svg.append(make("text", { class: "tick", x, y: H - bottom + 18 }, label));
    });
    svg.append(make("text", { class: "tick", x: (left + W - right) / 2, y: H - 8 }, words(choice.x)));
    const colour = (j) => `color-mix(in oklab, var(--s1) ${Y.length > 1 ? ((100 * j) / (Y.length - 1)).toFixed(0) : 0}%, var(--s0))`;
    for (const { name, j, values } of all) {
      if (MARKS[name] !== "line" && MARKS[name] !== "dashes") continue;
      const path = values.map((v, i) => [px(i), v.mean]).filter(([, mean]) => mean !== null).sort((a, b) => a[0] - b[0]);
      const points = path.map(([x, mean]) => `${x.toFixed(1)},${py(mean).toFixed(1)}`).join(" ");
      svg.append(make("polyline", { class: MARKS[name], points, style: `stroke: ${colour(j)}` }));
    }
    Y.forEach((_, j) => X.forEach((_, i) => { // all marks at one place are read out together
      const group = make("g", { class: "cell mark" });
      const here = all.filter((each) => each.j === j).map(({ name, values }) => [name, values[i]]);
      group.dataset.label = `${words(choice.quantity)}, ${where(i, j)}: ` +
        here.map(([name, value]) => (name === "value" ? "" : `${name} `) + say(value)).join("; ");
      for (const [name, { mean, error }] of here) {
        if (mean === null) continue;
        const mark = MARKS[name], x = px(i) + (mark === "square" ? 6 : 0), y = py(mean), style = `fill: ${colour(j)}; stroke: ${colour(j)}`;
        if (error !== null && (mark === "dot" || mark === "square"))
          group.append(make("line", { x1: x, x2: x, y1: py(mean - error), y2: py(mean + error), style }));
        if (mark === "square") group.append(make("rect", { x: x - 4, y: y - 4, width: 8, height: 8, style: `fill: none; stroke: ${colour(j)}` }));
        else group.append(make("circle", { cx: x, cy: y, r: mark === "dot" ? 4 : 2, style }));
        group.append(make("circle", { class: "target", cx: x, cy: y, r: 7 }));
      }
      group.append(make("title", {}, group.dataset.label));
      svg.append(group);
    }));
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    svg.setAttribute("width", W);
    svg.setAttribute("aria-label", `${words(choice.quantity)} over ${words(choice.x)}, a line per ${words(choice.y)}`);
    svg.dataset.columns = X.length;
    readable(svg);
    part(".legend").replaceChildren(...Y.map((label, j) => {
      const item = html("li", ` ${words(choice.y)} = ${label}`);
      const swatch = html("span", "", { className: "swatch" });
      swatch.style.background = colour(j);
      item.prepend(swatch);
      return item;
    }));
    const told = { line: "solid line", dashes: "dashed line", dot: "dots", square: "squares" };
    const seeds = choice.at.seed === "mean" && choice.x !== "seed" && choice.y !== "seed";
    const bars = svg.querySelector(".mark line") ? `bars are ${seeds ? "their standard deviation" : "Monte Carlo standard errors"}` : "";
    part(".lines-caption").textContent = `${words(choice.quantity)} over ${words(choice.x)}${log ? " (logarithmic)" : ""}: ` +
      [...sources.map(([name]) => (name === "value" ? "" : `${name}, `) + told[MARKS[name]]), seeds ? "means over seeds" : "", bars]
        .filter(Boolean).join("; ") + ".";
  };

  const table = (grid) => {
    const head = html("tr");
    head.append(...[`${words(choice.y)} \\ ${words(choice.x)}`, ...axes[choice.x]].map((label) => html("th", String(label), { scope: "col" })));
    const rows = grid.map((row, j) => {
      const line = html("tr");
      line.append(html("th", String(axes[choice.y][j]), { scope: "row" }));
      line.append(...row.map(({ mean, error }) => html("td", shown(mean) + (error === null ? "" : ` ± ${shown(error)}`), { className: "n" })));
      return line;
    });
    const top = html("thead"), body = html("tbody");
    top.append(head);
    body.append(...rows);
    part(".sweep-values").replaceChildren(top, body);
  };

  const draw = (focus) => {
    const dims = settle();
    controls(dims, focus);
    const source = quantities[choice.quantity][choice.source];
    const grid = axes[choice.y].map((_, j) => axes[choice.x].map((_, i) => look(source, { [choice.x]: i, [choice.y]: j })));
    const name = choice.source === "value" ? words(choice.quantity) : `${words(choice.quantity)}, ${choice.source}`;
    heatMap(grid, name);
    lines();
    table(grid);
  };
  draw();
}
