// The page: its theme, its tables, then its plots.
const tables = {};

function theme() {
  const button = document.getElementById("theme"), choices = ["as the system", "light", "dark"];
  let chosen = 0;
  try { chosen = Math.max(0, choices.indexOf(localStorage.getItem("smoe-theme"))); } catch { /* storage is off: nothing is kept */ }
  const apply = () => {
    if (chosen) document.documentElement.dataset.theme = choices[chosen]; else delete document.documentElement.dataset.theme;
    button.textContent = `Theme: ${choices[chosen]}`;
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = (chosen + 1) % choices.length;
    try { localStorage.setItem("smoe-theme", choices[chosen]); } catch { /* as above */ }
    apply();
  });
  apply();
}

theme();
for (const box of document.querySelectorAll("div.table")) tables[box.id] = new SmartTable(box);
const drawers = { scatter: drawScatter, bars: drawBars, dots: drawDots, heat: drawHeat, timeline: drawTimeline };
for (const figure of document.querySelectorAll("figure.plot")) {
  drawers[figure.dataset.kind](figure, JSON.parse(figure.querySelector("script").textContent));
}
