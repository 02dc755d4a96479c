// A row a name, a mark a series, intervals where known: {unit, rows, log, zero, series: [{name, values, low?, high?}]}.
function drawDots(figure, data) {
  let log = data.log;
  const values = data.series.flatMap((series) => series.values);
  if (!values.some((v) => v !== null && v <= 0)) checkbox(figure, "log scale", log, (v) => { log = v; redraw(); });
  const look = (n) => ({ name: data.series[n].name, colour: colour(n), shape: SHAPES[n % 8] });
  const hidden = legend(figure, data.series.map((_, n) => look(n)), () => redraw());

  function redraw() {
    const width = Math.max(260, figure.querySelector(".canvas").clientWidth), narrow = width < NARROW;
    const left = narrow ? 10 : Math.min(300, 18 + 7 * Math.max(...data.rows.map((row) => row.length)));
    const step = narrow ? 42 : 28, height = data.rows.length * step + 56, bottom = height - 46;
    const { svg, add } = canvas(figure, width, height);
    const shown = data.series.map((series, n) => ({ ...series, ...look(n) })).filter((series) => !hidden.has(series.name));
    const ends = shown.flatMap((series) => [...series.values, ...(series.low ?? []), ...(series.high ?? [])]).filter((v) => v !== null);
    const x = axis(ends, left, width - 24, log, data.zero);
    xAxis(svg, x, 4, bottom, data.unit);
    if (data.zero && !log) draw("line", { x1: x.place(0), x2: x.place(0), y1: 4, y2: bottom, style: "stroke:var(--ink)" }, svg);
    data.rows.forEach((name, row) => {
      const y = row * step + (narrow ? 26 : 16);
      draw("text", narrow ? { x: 2, y: y - 10, class: "halo" } : { x: left - 12, y: y + 4, "text-anchor": "end" }, svg, short(name, narrow ? 48 : 42));
      draw("line", { x1: left, x2: width - 20, y1: y, y2: y, class: "grid", "stroke-dasharray": "2 4" }, svg);
      for (const series of shown) mark(svg, add, series, name, row, x, y);
    });
  }

  function mark(svg, add, series, name, row, x, y) {
    const value = series.values[row], low = series.low?.[row] ?? null, high = series.high?.[row] ?? null;
    if (value === null || (log && value <= 0)) return;
    const known = low !== null && high !== null;
    if (known) draw("line", { x1: x.place(log ? Math.max(low, x.low) : low), x2: x.place(high), y1: y, y2: y, style: `stroke:${series.colour};stroke-width:3;stroke-opacity:.6` }, svg);
    const node = shape(series.shape, x.place(value), y, 6, { fill: series.colour }, svg);
    const interval = known ? `\n95%: ${number(low)} to ${number(high)}` : "";
    add(node, `${name}\n${series.name}: ${number(value)} ${data.unit}${interval}`);
  }
  whenSized(figure, redraw);
}
