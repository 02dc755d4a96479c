// Grids of numbers, one at a time: {across, up, grids: [{name, unit, diverging, values[up][across]}]}.
function drawHeat(figure, data) {
  let grid = data.grids[0];
  if (data.grids.length > 1) picker(figure, "show", data.grids.map((each, n) => [n, each.name]), 0, (v) => { grid = data.grids[Number(v)]; redraw(); });

  // Lightness alone tells the value; of a difference, two hues tell the sign.
  function fill(value, largest) {
    const share = largest ? Math.min(1, Math.abs(value) / largest) : 0;
    return `color-mix(in srgb, var(--${grid.diverging && value < 0 ? "c1" : "c0"}) ${Math.round(100 * share)}%, var(--panel))`;
  }

  function redraw() {
    const width = Math.max(260, figure.querySelector(".canvas").clientWidth), left = 58;
    const rows = grid.values.length, columns = grid.values[0].length;
    const wide = Math.max(4, Math.min(64, (width - left - 8) / columns)), high = rows > 40 ? Math.max(4, 600 / rows) : 24;
    const { svg, add } = canvas(figure, Math.max(width, left + wide * columns + 8), rows * high + 76);
    const largest = Math.max(...grid.values.flat().map((v) => Math.abs(v ?? 0)));
    draw("text", { x: left, y: 12 }, svg, `${data.across} →`);
    draw("text", { x: 0, y: 12 }, svg, `${data.up} ↓`);
    const every = Math.ceil(24 / wide), everyRow = Math.ceil(14 / high);
    for (let c = 0; c < columns; c += every) draw("text", { x: left + (c + 0.5) * wide, y: 28, "text-anchor": "middle", class: "soft" }, svg, c);
    grid.values.forEach((values, r) => {
      if (r % everyRow === 0) draw("text", { x: left - 6, y: 34 + (r + 0.5) * high + 4, "text-anchor": "end", class: "soft" }, svg, r);
      values.forEach((value, c) => {
        if (value === null) return;
        const at = { x: left + c * wide, y: 34 + r * high };
        const node = draw("rect", { ...at, width: wide - 1, height: high - 1, style: `fill:${fill(value, largest)}` }, svg);
        add(node, `${data.across} ${c}, ${data.up} ${r}\n${grid.name}: ${number(value)} ${grid.unit}`);
        if (wide > 34 && high > 16) draw("text", { x: at.x + wide / 2, y: at.y + high / 2 + 4, "text-anchor": "middle", class: "halo", style: "pointer-events:none;font-size:11px" }, svg, number(Number(value.toPrecision(3))));
      });
    });
    key(svg, rows * high + 46, left, largest);
  }

  function key(svg, top, left, largest) {
    const ends = grid.diverging ? [-largest, 0, largest] : [0, largest / 2, largest];
    for (let n = 0; n <= 20; n++) {
      const value = ends[0] + ((ends[2] - ends[0]) * n) / 20;
      draw("rect", { x: left + n * 8, y: top, width: 8, height: 9, style: `fill:${fill(value, largest)}` }, svg);
    }
    draw("text", { x: left, y: top + 24, class: "soft" }, svg, `${number(ends[0])} to ${number(ends[2])} ${grid.unit}`);
  }
  whenSized(figure, redraw);
}
