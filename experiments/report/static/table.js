// Tables that sort and filter. A filter is text that the cell holds, or >5, <=2, =3, 1..4 for numbers.
const FILTERS_FROM = 5;

function valueOf(cell) {
  const text = cell.dataset.v ?? cell.textContent.trim();
  const plain = text.replaceAll(",", "");
  return text !== "" && Number.isFinite(Number(plain)) ? Number(plain) : text;
}

function predicate(text) {
  const said = text.trim().toLowerCase();
  const range = said.match(/^(-?[\d.e+-]+)\.\.(-?[\d.e+-]+)$/), bound = said.match(/^(>=|<=|>|<|=)\s*(-?[\d.e+-]+)$/);
  if (!said) return null;
  if (range) return (v) => typeof v === "number" && v >= Number(range[1]) && v <= Number(range[2]);
  if (bound) {
    const limit = Number(bound[2]);
    const holds = { ">": (v) => v > limit, "<": (v) => v < limit, ">=": (v) => v >= limit, "<=": (v) => v <= limit, "=": (v) => v === limit }[bound[1]];
    return (v) => typeof v === "number" && holds(v);
  }
  return (v, shown) => shown.toLowerCase().includes(said);
}

class SmartTable {
  constructor(box) {
    this.box = box;
    this.body = box.querySelector("tbody");
    this.heads = [...box.querySelectorAll("thead th")];
    this.columns = this.heads.map((th) => ({ name: th.querySelector("span").textContent, unit: th.querySelector("small")?.textContent ?? "", numeric: th.classList.contains("n") }));
    this.rows = [...this.body.rows].map((tr) => ({ tr, values: [...tr.cells].map(valueOf), shown: [...tr.cells].map((td) => td.textContent) }));
    this.visible = this.rows;
    this.listeners = [];
    this.tests = this.columns.map(() => null);
    if (this.rows.length > 1) this.heads.forEach((th, place) => this.sortable(th, place));
    if (this.rows.length >= FILTERS_FROM) this.filterable();
  }

  title(place) {
    const { name, unit } = this.columns[place];
    return unit ? `${name}, ${unit}` : name;
  }

  sortable(th, place) {
    const button = make("button", { type: "button" });
    button.append(...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const down = th.getAttribute("aria-sort") === "ascending";
      this.heads.forEach((other) => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1, empty = (v) => v === "";
      this.rows.sort(({ values: a }, { values: b }) => {
        const x = a[place], y = b[place];
        if (empty(x) || empty(y)) return empty(x) - empty(y);
        if (typeof x === "number" && typeof y === "number") return sign * (x - y);
        return sign * String(x).localeCompare(String(y), "en", { numeric: true });
      });
      this.body.append(...this.rows.map((row) => row.tr));
    });
  }

  filterable() {
    const line = make("tr", { class: "filters" }, this.box.querySelector("thead"));
    this.columns.forEach((column, place) => {
      const hint = column.numeric ? "a number, >5, <=2, 1..4" : "text in it";
      const input = make("input", { type: "text", "aria-label": `filter ${column.name}`, placeholder: "filter", title: hint }, make("th", {}, line));
      input.addEventListener("input", () => { this.tests[place] = predicate(input.value); this.apply(); });
    });
    this.count = make("p", { class: "note", role: "status" }, this.box);
    this.apply();
  }

  apply() {
    this.visible = this.rows.filter(({ values, shown }) => this.tests.every((test, place) => !test || test(values[place], shown[place])));
    const shown = new Set(this.visible);
    for (const row of this.rows) row.tr.hidden = !shown.has(row);
    this.count.textContent = shown.size === this.rows.length ? `${this.rows.length} rows` : `${shown.size} of ${this.rows.length} rows`;
    this.listeners.forEach((listener) => listener());
  }
}
