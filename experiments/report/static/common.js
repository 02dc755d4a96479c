// What every plot shares: elements, numbers, axes, legends, and marks that a mouse, a finger or the keyboard can visit.
const SVG = "http://www.w3.org/2000/svg";
const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "plus", "down", "ring"];
const NARROW = 560;

function make(tag, attributes = {}, parent = null, text = null) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function draw(tag, attributes, parent, text = null) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function colour(place) {
  return `var(--c${place % 8})`;
}

function number(value) {
  if (value === null || Number.isNaN(value)) return "none";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return value.toExponential(2);
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return String(Number(value.toPrecision(4)));
}

// An axis: place(value) in pixels, and its ticks. Values of a log axis are positive.
function axis(values, from, to, log, withZero = false) {
  const known = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  let low = Math.min(...known), high = Math.max(...known);
  if (!known.length) [low, high] = log ? [1, 10] : [0, 1];
  if (withZero && !log) { low = Math.min(low, 0); high = Math.max(high, 0); }
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const room = log ? Math.pow(high / low, 0.05) : (high - low) * 0.05;
  if (log) { low /= room; high *= room; } else if (!withZero) { low -= room; high += room; } else { low -= low < 0 ? room : 0; high += high > 0 ? room : 0; }
  const at = log ? Math.log : (v) => v;
  const place = (v) => from + ((at(v) - at(low)) / (at(high) - at(low))) * (to - from);
  const most = Math.max(2, Math.floor(Math.abs(to - from) / 62));
  return { place, low, high, ticks: log ? logTicks(low, high, most) : ticks(low, high, most) };
}

function ticks(low, high, most) {
  const raw = (high - low) / most, power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high * (1 + 1e-12); n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

function logTicks(low, high, most) {
  const decades = Math.log10(high / low);
  if (decades < 0.7) return ticks(low, high, most).filter((v) => v > 0);
  const wanted = decades > most ? [1] : decades > most / 3 ? [1] : [1, 2, 5];
  const every = wanted.length === 1 ? Math.max(1, Math.ceil(decades / most)) : 1, found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
    if (e % every) continue;
    for (const m of wanted) { const v = m * Math.pow(10, e); if (v >= low && v <= high) found.push(v); }
  }
  return found;
}

function xAxis(svg, scale, top, bottom, title) {
  for (const tick of scale.ticks) {
    const x = scale.place(tick);
    draw("line", { x1: x, x2: x, y1: top, y2: bottom, class: "grid" }, svg);
    draw("text", { x, y: bottom + 16, "text-anchor": "middle", class: "soft" }, svg, number(tick));
  }
  const middle = (scale.place(scale.low) + scale.place(scale.high)) / 2;
  draw("text", { x: middle, y: bottom + 34, "text-anchor": "middle" }, svg, title);
}

function shape(kind, x, y, r, attributes, parent) {
  const points = {
    square: [[-1, -1], [1, -1], [1, 1], [-1, 1]], triangle: [[0, -1.2], [1.15, 0.9], [-1.15, 0.9]],
    down: [[0, 1.2], [1.15, -0.9], [-1.15, -0.9]], diamond: [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
    plus: [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
  };
  points.cross = points.plus.map(([a, b]) => [(a - b) * 0.75, (a + b) * 0.75]);
  if (kind === "ring") return draw("circle", { ...attributes, cx: x, cy: y, r: r * 0.9, style: `fill:var(--paper);stroke:${attributes.fill};stroke-width:2.5` }, parent);
  if (!points[kind]) return draw("circle", { ...attributes, cx: x, cy: y, r }, parent);
  return draw("polygon", { ...attributes, points: points[kind].map(([a, b]) => `${x + a * r},${y + b * r}`).join(" ") }, parent);
}

// Buttons that show and hide; entries are {name, colour, shape?}. Returns the hidden names.
function legend(figure, entries, redraw) {
  const box = figure.querySelector(".legend"), hidden = new Set();
  box.replaceChildren();
  if (entries.length < 2) return hidden;
  for (const entry of entries) {
    const button = make("button", { type: "button", "aria-pressed": "true", title: "show or hide" }, box);
    shape(entry.shape || "square", 7, 7, 5, { fill: entry.colour }, draw("svg", { "aria-hidden": "true" }, button));
    make("span", {}, button, entry.name);
    button.addEventListener("click", () => {
      hidden.has(entry.name) ? hidden.delete(entry.name) : hidden.add(entry.name);
      button.setAttribute("aria-pressed", String(!hidden.has(entry.name)));
      redraw();
    });
  }
  return hidden;
}

function picker(figure, label, options, chosen, onChange) {
  const box = make("label", {}, figure.querySelector(".controls"), label);
  const select = make("select", {}, box);
  for (const [value, text] of options) {
    const option = make("option", { value }, select, text);
    option.selected = String(value) === String(chosen);
  }
  select.addEventListener("change", () => onChange(select.value));
  return select;
}

function checkbox(figure, label, checked, onChange) {
  const box = make("label", {}, figure.querySelector(".controls"));
  const input = make("input", { type: "checkbox" }, box);
  input.checked = checked;
  make("span", {}, box, label);
  input.addEventListener("change", () => onChange(input.checked));
}

// An empty drawing; arrow keys go from mark to mark. add(node, text) makes a node a mark.
function canvas(figure, width, height) {
  const box = figure.querySelector(".canvas"), had = box.contains(document.activeElement);
  const title = figure.querySelector("h3").textContent;
  const svg = draw("svg", { width, height, tabindex: 0, role: "img", "aria-label": `${title}. Arrow keys read the values.` });
  box.replaceChildren(svg);
  const marks = [];
  let here = -1;
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") return hideTip();
    if (!step || !marks.length) return;
    event.preventDefault();
    if (marks[here]) marks[here].node.classList.remove("here");
    here = (Math.max(here, step > 0 ? -1 : 0) + step + marks.length) % marks.length;
    const { node, text } = marks[here], place = node.getBoundingClientRect();
    node.classList.add("here");
    node.scrollIntoView({ block: "nearest", inline: "nearest" });
    figure.querySelector(".said").textContent = text.replaceAll("\n", " · ");
    showTip(text, place.x + place.width / 2, place.y + place.height);
  });
  svg.addEventListener("blur", hideTip);
  if (had) svg.focus({ preventScroll: true });
  const add = (node, text) => {
    marks.push({ node, text });
    for (const kind of ["pointerenter", "pointermove"]) node.addEventListener(kind, (event) => showTip(text, event.clientX, event.clientY));
    node.addEventListener("pointerleave", hideTip);
  };
  return { svg, add };
}

function showTip(text, x, y) {
  const tip = document.getElementById("tip");
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - width - 4))}px`;
  tip.style.top = `${y + 16 + height > innerHeight ? Math.max(4, y - height - 12) : y + 16}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}

// Draw now, and again whenever the width has changed.
function whenSized(figure, redraw) {
  const box = figure.querySelector(".canvas");
  let width = 0;
  const look = () => { if (box.clientWidth !== width) { width = box.clientWidth; redraw(); } };
  look();
  addEventListener("resize", look);
}

function short(text, most) {
  return text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text;
}
