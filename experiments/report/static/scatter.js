// Any column of a table over any other; filters of the table hold here too.
function drawScatter(figure, data) {
  const table = tables[data.table], { columns } = table;
  const distinct = columns.map((_, place) => [...new Set(table.rows.map((row) => String(row.values[place])))]);
  const numeric = columns.map((_, place) => table.rows.some((row) => typeof row.values[place] === "number"));
  const axes = columns.map((_, place) => [place, table.title(place)]).filter(([place]) => numeric[place] || distinct[place].length <= 40);
  const groups = columns.map((_, place) => [place, columns[place].name]).filter(([place]) => distinct[place].length <= 24);
  const place = (name) => columns.findIndex((column) => column.name === name);
  const state = { x: place(data.x), y: place(data.y), by: place(data.by), logX: data.log, logY: data.log, line: data.line };
  let hidden = new Set();

  const entries = () => (state.by < 0 ? [] : distinct[state.by].map((name, n) => ({ name, colour: colour(n), shape: SHAPES[(n + Math.floor(n / 8)) % 8] })));
  const relabel = () => { hidden = legend(figure, entries(), redraw); };
  picker(figure, "across", axes, state.x, (v) => { state.x = Number(v); redraw(); });
  picker(figure, "up", axes, state.y, (v) => { state.y = Number(v); redraw(); });
  picker(figure, "colour", [[-1, "none"], ...groups], state.by, (v) => { state.by = Number(v); relabel(); redraw(); });
  checkbox(figure, "log across", state.logX, (v) => { state.logX = v; redraw(); });
  checkbox(figure, "log up", state.logY, (v) => { state.logY = v; redraw(); });
  checkbox(figure, "lines", state.line, (v) => { state.line = v; redraw(); });

  // Text on an axis stands in the order of the table.
  const numberOf = (row, column) => (numeric[column] ? row.values[column] : distinct[column].indexOf(String(row.values[column])));

  function label(row) {
    const named = [...new Set([0, state.by, state.x, state.y])].filter((c) => c >= 0);
    return named.map((c) => `${table.title(c)}: ${row.shown[c]}`).join("\n");
  }

  function redraw() {
    const width = Math.max(260, figure.querySelector(".canvas").clientWidth), height = Math.min(440, Math.max(300, width * 0.5));
    const { svg, add } = canvas(figure, width, height);
    const left = width < NARROW ? 58 : 84, bottom = height - 46;
    const logX = state.logX && numeric[state.x], logY = state.logY && numeric[state.y];
    const usable = table.visible.filter((row) => {
      const x = numberOf(row, state.x), y = numberOf(row, state.y);
      return [[x, logX], [y, logY]].every(([v, log]) => typeof v === "number" && (!log || v > 0)) && !hidden.has(String(row.values[state.by]));
    });
    const x = axis(usable.map((row) => numberOf(row, state.x)), left + 8, width - 14, logX);
    const y = axis(usable.map((row) => numberOf(row, state.y)), bottom - 6, 22, logY);
    named(x, state.x); named(y, state.y);
    xAxis(svg, x, 14, bottom, "");
    for (const node of svg.querySelectorAll("text")) if (!numeric[state.x]) node.textContent = short(distinct[state.x][Number(node.textContent)] ?? "", 12);
    draw("text", { x: width - 14, y: height - 10, "text-anchor": "end" }, svg, table.title(state.x));
    for (const tick of y.ticks) {
      draw("line", { x1: left, x2: width - 10, y1: y.place(tick), y2: y.place(tick), class: "grid" }, svg);
      const said = numeric[state.y] ? number(tick) : short(distinct[state.y][tick] ?? "", width < NARROW ? 7 : 11);
      draw("text", { x: left - 6, y: y.place(tick) + 4, "text-anchor": "end", class: "soft" }, svg, said);
    }
    draw("text", { x: 2, y: 12 }, svg, table.title(state.y));
    if (!usable.length) draw("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, svg, "no row has both values");
    const looks = new Map(entries().map((entry) => [entry.name, entry]));
    const look = (row) => looks.get(String(row.values[state.by])) ?? { name: "", colour: colour(0), shape: "circle" };
    if (state.line) lines(svg, usable, look, x, y);
    const spots = new Map(); // rows that lie on each other: each says what all of them are
    for (const row of usable) {
      const at = [x.place(numberOf(row, state.x)), y.place(numberOf(row, state.y))], key = at.map((v) => Math.round(v / 5)).join();
      if (!spots.has(key)) spots.set(key, []);
      spots.get(key).push({ at, row });
    }
    for (const spot of [...spots.values()].sort((a, b) => a[0].at[0] - b[0].at[0])) {
      const more = spot.length > 5 ? `\n… and ${spot.length - 5} more here` : "";
      const said = spot.slice(0, 5).map(({ row }) => label(row)).join("\n\n") + more;
      for (const { at, row } of spot) {
        const { colour: fill, shape: kind } = look(row);
        add(shape(kind, ...at, usable.length > 400 ? 4 : usable.length > 100 ? 5 : 6, { fill, "fill-opacity": 0.8 }, svg), said);
      }
    }
    const out = table.visible.length - usable.length;
    figure.querySelector(".said").textContent = out ? `${out} of ${table.visible.length} rows have no value here${logX || logY ? " (or none above 0, on a log axis)" : ""}, or are hidden` : "";
  }

  function named(scale, column) {
    if (!numeric[column]) scale.ticks = scale.ticks.filter((tick) => Number.isInteger(tick) && tick >= 0);
  }

  // A line through the means at each place across, and a band from the least to the most there.
  function lines(svg, rows, look, x, y) {
    for (const group of grouped(rows, (row) => look(row).name).values()) {
      const at = [...grouped(group, (row) => numberOf(row, state.x))].sort((a, b) => a[0] - b[0]);
      const means = at.map(([v, some]) => [v, some.reduce((sum, row) => sum + numberOf(row, state.y), 0) / some.length]);
      const ends = at.map(([v, some]) => [v, some.map((row) => numberOf(row, state.y))]);
      const line = (list) => list.map(([v, w]) => `${x.place(v)},${y.place(w)}`).join(" ");
      const colour = look(group[0]).colour;
      if (group.length > at.length) {
        const band = [...ends.map(([v, all]) => [v, Math.max(...all)]), ...ends.map(([v, all]) => [v, Math.min(...all)]).reverse()];
        draw("polygon", { points: line(band), style: `fill:${colour};fill-opacity:.12;stroke:none` }, svg);
      }
      draw("polyline", { points: line(means), fill: "none", style: `stroke:${colour};stroke-width:1.5` }, svg);
    }
  }

  function grouped(rows, keyOf) {
    const found = new Map();
    for (const row of rows) found.set(keyOf(row), [...(found.get(keyOf(row)) ?? []), row]);
    return found;
  }

  relabel();
  table.listeners.push(redraw);
  whenSized(figure, redraw);
}
