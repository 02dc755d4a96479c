// Horizontal bars made of parts, a bar a row: {unit, rows, parts: [{name, colour, values}]}.
function drawBars(figure, data) {
  let shares = false;
  if (data.rows.length > 1) checkbox(figure, "as shares", false, (v) => { shares = v; redraw(); });
  const hidden = legend(figure, data.parts.map((part) => ({ name: part.name, colour: `var(--${part.colour})` })), () => redraw());

  function redraw() {
    const width = Math.max(260, figure.querySelector(".canvas").clientWidth), narrow = width < NARROW;
    const left = narrow ? 4 : Math.min(220, 14 + 7 * Math.max(...data.rows.map((row) => row.length)));
    const step = narrow ? 44 : 30, height = data.rows.length * step + 56, bottom = height - 46;
    const { svg, add } = canvas(figure, width, height);
    const parts = data.parts.filter((part) => !hidden.has(part.name));
    const totals = data.rows.map((_, row) => parts.reduce((sum, part) => sum + (part.values[row] ?? 0), 0));
    const size = (part, row) => (part.values[row] ?? 0) / (shares ? totals[row] || 1 : 1) * (shares ? 100 : 1);
    const x = axis(shares ? [0, 95] : [0, ...totals], left, width - 70, false, true);
    xAxis(svg, x, 4, bottom, shares ? "%" : data.unit);
    data.rows.forEach((name, row) => {
      const top = row * step + (narrow ? 20 : 6);
      draw("text", narrow ? { x: left, y: top - 5 } : { x: left - 8, y: top + 14, "text-anchor": "end" }, svg, short(name, narrow ? 60 : 32));
      let from = 0;
      for (const part of parts) {
        const value = size(part, row), start = x.place(from), wide = x.place(from + value) - start;
        from += value;
        if (wide <= 0) continue;
        const node = draw("rect", { x: start, y: top, width: Math.max(0.8, wide - 1), height: 20, fill: `var(--${part.colour})` }, svg);
        const share = totals[row] ? ` (${number((100 * part.values[row]) / totals[row])}%)` : "";
        add(node, `${name}\n${part.name}: ${number(part.values[row])} ${data.unit}${share}`);
      }
      draw("text", { x: x.place(from) + 5, y: top + 14, class: "halo" }, svg, number(totals[row]));
    });
  }
  whenSized(figure, redraw);
}
