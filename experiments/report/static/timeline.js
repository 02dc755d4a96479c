// What every function of a batch did: {phases, batches: [{name, calls: [{instance, text, phases: [[phase, start_s, end_s]]}]}]}.
function drawTimeline(figure, data) {
  let batch = data.batches[0], span = null;
  if (data.batches.length > 1) picker(figure, "show", data.batches.map((each, n) => [n, each.name]), 0, (v) => { batch = data.batches[Number(v)]; span = null; redraw(); });
  const controls = figure.querySelector(".controls");
  for (const [text, label, change] of [["+", "zoom in", [0.25, -0.25]], ["−", "zoom out", [-0.5, 0.5]], ["◀", "earlier", [-0.5, -0.5]], ["▶", "later", [0.5, 0.5]], ["all", "the whole batch", null]]) {
    const button = make("button", { type: "button", "aria-label": label, title: label }, controls, text);
    button.addEventListener("click", () => { zoom(change); });
  }
  make("span", { class: "about" }, controls, "drag across the picture to zoom");
  const seen = new Set(data.batches.flatMap((each) => each.calls.flatMap((call) => call.phases.map(([phase]) => phase))));
  const hidden = legend(figure, data.phases.filter((_, n) => seen.has(n)).map((name) => ({ name: name.replaceAll("_", " "), colour: `var(--phase-${name})` })), () => redraw());

  const ends = () => {
    const all = batch.calls.flatMap((call) => call.phases);
    return [Math.min(...all.map((p) => p[1])), Math.max(...all.map((p) => p[2]))];
  };

  function zoom(change) {
    const whole = ends();
    if (!change) span = null;
    else {
      const [from, to] = span ?? whole, wide = to - from;
      const next = [from + change[0] * wide, to + change[1] * wide];
      span = [Math.max(whole[0], next[0]), Math.min(whole[1], next[1])];
      if (span[1] - span[0] <= 0) span = [from, to];
    }
    redraw();
  }

  function redraw() {
    const width = Math.max(260, figure.querySelector(".canvas").clientWidth);
    const [from, to] = span ?? ends(), narrow = width < NARROW, left = narrow ? 96 : 170;
    const instances = [...new Set(batch.calls.map((call) => call.instance))];
    const place = new Map(instances.map((name, n) => [name, n]));
    const step = instances.length > 400 ? 5 : 13, height = instances.length * step + 64, bottom = height - 40;
    const { svg, add } = canvas(figure, width, height);
    const right = width - 12, at = (s) => left + ((s - from) / (to - from)) * (right - left);
    const x = { place: at, low: from, high: to, ticks: ticks(from, to, Math.max(2, (right - left) / 80)) };
    xAxis(svg, x, 18, bottom, "seconds from the first call");
    for (const tick of x.ticks) draw("text", { x: at(tick), y: 12, "text-anchor": "middle", class: "soft" }, svg, number(tick));
    if (step > 8) instances.forEach((name, n) => draw("text", { x: left - 6, y: 20 + n * step + 10, "text-anchor": "end", class: "soft", style: `font-size:${narrow ? 9 : 10}px` }, svg, short(name, narrow ? 19 : 30)));
    for (const call of batch.calls) for (const [phase, start, end] of call.phases) {
      if (end <= from || start >= to || hidden.has(data.phases[phase].replaceAll("_", " "))) continue;
      const a = at(Math.max(start, from)), b = at(Math.min(end, to)), name = data.phases[phase];
      const node = draw("rect", { x: a, y: 20 + place.get(call.instance) * step, width: Math.max(0.6, b - a), height: step - 2, fill: `var(--phase-${name})` }, svg);
      add(node, `${call.text}\n${name.replaceAll("_", " ")}: ${number(end - start)} s (from ${number(start)} to ${number(end)} s)`);
    }
    dragging(svg, left, right, (px) => from + ((px - left) / (right - left)) * (to - from));
  }

  function dragging(svg, left, right, timeAt) {
    let began = null, band = null;
    const pixel = (event) => Math.max(left, Math.min(right, event.clientX - svg.getBoundingClientRect().x));
    svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button !== 0) return;
      began = pixel(event);
      band = draw("rect", { y: 18, height: "100%", x: began, width: 0, style: "fill:var(--accent);fill-opacity:.18;pointer-events:none" }, svg);
    });
    svg.addEventListener("pointermove", (event) => {
      if (began === null) return;
      band.setAttribute("x", Math.min(began, pixel(event)));
      band.setAttribute("width", Math.abs(pixel(event) - began));
    });
    svg.addEventListener("pointerup", (event) => {
      if (began === null) return;
      const times = [timeAt(began), timeAt(pixel(event))].sort((a, b) => a - b), far = Math.abs(pixel(event) - began) > 5;
      began = null;
      band.remove();
      if (far) { span = times; redraw(); }
    });
  }
  whenSized(figure, redraw);
}
