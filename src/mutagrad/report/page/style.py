"""How a page looks, and how its charts are drawn: CSS and JavaScript."""

__all__ = ["CSS", "JAVASCRIPT", "WATCH"]

CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --quiet: #57606a; --paper: #ffffff; --card: #f5f7f9; --line: #d0d7de;
  --good: #0a6640; --attention: #9a3b00; --unknown: #57606a; --link: #0056b3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --quiet: #b0b8c1; --paper: #14171b; --card: #1e2329;
  --line: #3a4048; --good: #5fd3a0; --attention: #ffb27a; --unknown: #b0b8c1; --link: #8ab8ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 ui-sans-serif, system-ui, sans-serif; }
main, header, footer { max-width: 1320px; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.25rem; padding-bottom: 0.75rem; } footer { padding-bottom: 2rem; color: var(--quiet); font-size: 0.9rem; }
h1 { font-size: 1.55rem; line-height: 1.2; margin: 0 0 0.25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.75rem; } h3 { font-size: 1.02rem; margin: 0 0 0.25rem; }
p { margin: 0.25rem 0; overflow-wrap: anywhere; } .quiet { color: var(--quiet); }
.verdicts, .panels { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.panels { grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.9rem 1rem; min-width: 0; }
.verdicts { margin-top: 0.75rem; }
.verdict { border-left: 5px solid var(--tone); } .answer { font-size: 1.3rem; font-weight: 650; color: var(--tone); margin: 0; }
.good { --tone: var(--good); } .attention { --tone: var(--attention); } .unknown { --tone: var(--unknown); }
.verdict ul { margin: 0.4rem 0 0; padding-left: 1.1rem; } .verdict li { margin: 0.15rem 0; overflow-wrap: anywhere; }
.why { color: var(--quiet); font-size: 0.92rem; margin-bottom: 0.5rem; }
.chart { width: 100%; min-height: 240px; } .paper { display: none; background: #ffffff; padding: 4px; }
.paper img { width: 100%; height: auto; }
details { margin-top: 0.4rem; } summary { cursor: pointer; color: var(--link); font-size: 0.92rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.2rem 0.9rem 0.2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--paper); border: 1px solid var(--line);
  border-radius: 6px; padding: 0.5rem 0.7rem; margin: 0.25rem 0 0.75rem; font-size: 0.88rem; }
.said p { margin: 0.3rem 0; } .note { border-left: 5px solid var(--attention); margin-top: 1rem; }
label { display: inline-flex; gap: 0.45rem; align-items: center; } input { width: 1.1rem; height: 1.1rem; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
#vg-tooltip-element { font: 14px/1.4 ui-sans-serif, system-ui, sans-serif; max-width: 90vw; }
@media print { :root { --ink: #000; --quiet: #333; --paper: #fff; --card: #fff; --line: #bbb; --good: #0a6640;
  --attention: #9a3b00; --unknown: #444; } .chart, .screen { display: none !important; } .paper { display: block; }
  .card { break-inside: avoid; } .panels { grid-template-columns: 1fr 1fr; } body { font-size: 11px; } }
"""

JAVASCRIPT = """
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = read("specs"), config = read("config"), root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)"), box = document.getElementById("log-generations");
  let views = [], turn = 0;
  const onLog = (part) => {
    if (Array.isArray(part)) return part.map(onLog);
    if (part === null || typeof part !== "object") return part;
    const made = {};
    for (const [name, value] of Object.entries(part)) {
      const isAxis = name === "x" && value && value.title === "generation";
      made[name] = name === "data" || name === "datasets" ? value
        : isAxis ? {...value, scale: {...value.scale, type: "log"}} : onLog(value);
    }
    return made;
  };
  async function draw() {
    const own = ++turn, theme = dark.matches ? "dark" : "light";
    root.dataset.drawn = "no";
    views.forEach((view) => view.finalize());
    views = [];
    for (const [id, spec] of Object.entries(specs)) {
      if (own !== turn) return;
      const options = {config: config[theme], actions: false, renderer: "svg", tooltip: {theme}};
      const place = document.getElementById(id);
      views.push(await vegaEmbed(place, box.checked ? onLog(spec) : spec, options));
      place.querySelector("svg").setAttribute("aria-hidden", "true");
    }
    root.dataset.drawn = theme;
  }
  box.addEventListener("change", draw);
  dark.addEventListener("change", draw);
  draw();
})();
"""

WATCH = """
(() => {
  const shown = document.documentElement.dataset.version, line = document.getElementById("watched");
  async function look() {
    try {
      const answer = await fetch("version", {cache: "no-store"});
      const now = await answer.text();
      line.textContent = "This page is made again when the run's folder changes.";
      if (answer.ok && now !== shown) { location.reload(); return; }
    } catch { line.textContent = "Whoever made this page has ended; it shows the run as it was."; }
    setTimeout(look, 2000);
  }
  look();
})();
"""
