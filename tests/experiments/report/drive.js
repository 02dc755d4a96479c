// Uses a page as a person does, and says what it saw, as JSON, to the page around it. Put at the end of the page by the test.
(() => {
  const seen = {};
  const plot = (kind) => document.querySelector(`figure[data-kind="${kind}"]`);
  const press = (node, key) => node.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const marks = (figure) => figure.querySelectorAll(".canvas rect, .canvas circle, .canvas polygon").length;
  const tip = document.getElementById("tip");

  const table = document.querySelector("div.table"), heads = [...table.querySelectorAll("thead th button")];
  const numeric = heads.findIndex((button) => button.closest("th").classList.contains("n"));
  const cells = () => [...table.querySelectorAll("tbody tr:not([hidden])")].map((tr) => tr.cells[numeric].dataset.v ?? tr.cells[numeric].textContent);
  heads[numeric].click();
  seen.ascending = cells();
  heads[numeric].click();
  seen.descending = cells();
  seen.sorted = heads[numeric].closest("th").getAttribute("aria-sort");

  const figure = plot("scatter");
  if (figure) {
    seen.all = marks(figure);
    const filter = table.querySelectorAll("tr.filters input")[numeric];
    if (filter) {
      const middle = seen.descending.filter((v) => v !== "")[1].replaceAll(",", "");
      filter.value = `>=${middle}`;
      filter.dispatchEvent(new Event("input"));
      seen.filtered = cells();
      seen.filteredMarks = marks(figure);
      seen.count = table.querySelector('[role="status"]').textContent;
      filter.value = "";
      filter.dispatchEvent(new Event("input"));
    }
    const [across] = figure.querySelectorAll("select"), other = [...across.options].find((option) => !option.selected);
    across.value = other.value;
    across.dispatchEvent(new Event("change"));
    seen.axis = [other.textContent, [...figure.querySelectorAll(".canvas text")].some((text) => text.textContent === other.textContent)];
    press(figure.querySelector(".canvas svg"), "ArrowRight");
    seen.read = figure.querySelector(".said").textContent;
    seen.tip = !tip.hidden && tip.textContent.replaceAll("\n", " · ") === seen.read;
    press(figure.querySelector(".canvas svg"), "Escape");
    seen.tipGone = tip.hidden;
  }

  const bars = plot("bars");
  if (bars) {
    const before = marks(bars);
    bars.querySelector(".legend button").click();
    seen.hidden = [before, marks(bars), bars.querySelector(".legend button").getAttribute("aria-pressed")];
  }

  const timeline = plot("timeline");
  if (timeline) {
    const before = marks(timeline);
    timeline.querySelector('button[aria-label="zoom in"]').click();
    timeline.querySelector('button[aria-label="zoom in"]').click();
    const near = marks(timeline);
    timeline.querySelector('button[aria-label="the whole batch"]').click();
    seen.zoom = [before, near, marks(timeline)];
  }

  const button = document.getElementById("theme"), papers = [];
  for (let n = 0; n < 3; n++) {
    button.click();
    papers.push(getComputedStyle(document.body).backgroundColor);
  }
  seen.papers = papers;
  seen.resources = performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !name.startsWith("data:"));
  seen.width = innerWidth;
  seen.tooWide = document.documentElement.scrollWidth - innerWidth;
  seen.empty = [...document.querySelectorAll("figure.plot")].filter((each) => marks(each) === 0).map((each) => each.querySelector("h3").textContent);

  const widths = () => [...document.querySelectorAll(".canvas")].map((box) => box.querySelector("svg").clientWidth - box.clientWidth);
  document.body.style.maxWidth = "390px";
  dispatchEvent(new Event("resize"));
  seen.widerThanTheirBox = widths().filter((more) => more > 0);
  parent.postMessage(JSON.stringify(seen), "*");
})();
