"use strict";
// Draws the plots of the page, and brings one that is served up to date.  Nothing here is needed to read it.

const root = document.documentElement, isLive = document.body.dataset.live === "true";
const at = (id) => document.getElementById(id);
const KEPT = 600; // points of the memory plot: ten minutes while nothing runs

// ------------------------------------------------------------------------------------------------------- numbers

function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let unit = 0;
  for (; Math.abs(bytes) >= 999.5 && unit < 4; unit++) bytes /= 1024;
  return `${unit ? Number(bytes.toPrecision(3)) : Math.round(bytes)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  return seconds < 120 ? `${Number(seconds.toPrecision(3))} s` : `${Number((seconds / 60).toPrecision(3))} min`;
}

// --------------------------------------------------------------------------------------------------------- plots

function color(name) { return getComputedStyle(root).getPropertyValue(name).trim(); }

function painted(value) { // the names of the page's colours become the colours
  if (typeof value === "string") return value.startsWith("--") ? color(value) : value;
  if (Array.isArray(value)) return value.map(painted);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v)]));
  return value;
}

function styled(layout) {
  const axis = { gridcolor: color("--line"), zerolinecolor: color("--line"), linecolor: color("--line"), automargin: true };
  const axes = Object.keys(layout).filter((name) => /^[xy]axis/.test(name)).concat(["xaxis", "yaxis"]);
  return Object.assign({ height: 300 }, layout, Object.fromEntries(axes.map((n) => [n, Object.assign({}, axis, layout[n])])), {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 60, r: 15, t: 15, b: 45 },
    font: { color: color("--text"), family: "system-ui, sans-serif", size: 13 },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, hovermode: "closest",
  });
}

function draw(place, figure) {
  if (window.Plotly)
    Plotly.react(place, painted(figure.data), styled(figure.layout), { responsive: true, displayModeBar: false });
}

function drawAll() {
  for (const place of document.querySelectorAll("[data-figure]")) draw(place, JSON.parse(place.dataset.figure));
  drawMemory();
}

// --------------------------------------------------------------------------------------------------------- theme

const THEMES = ["", "light", "dark"], button = at("theme");

function setTheme(theme) {
  if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
  button.textContent = `Theme: ${theme || "automatic"}`;
  drawAll();
}

function keptTheme() { try { return localStorage.getItem("preheat-theme") || ""; } catch { return ""; } }

button.hidden = false;
button.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(root.dataset.theme || "") + 1) % THEMES.length];
  try { localStorage.setItem("preheat-theme", next); } catch { /* then it lasts as long as the page */ }
  setTheme(next);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

// ----------------------------------------------------------------------------------------------------------- live

const seen = []; // what goes on, as it was told

function drawMemory() {
  const place = document.querySelector("#memory .plot");
  if (!place || !window.Plotly || seen.length < 2) return;
  at("memory").hidden = false;
  const line = (name, paint, of, more) => Object.assign({ type: "scatter", mode: "lines", name, line: { color: paint, width: 2 },
    x: seen.map((each) => each.at * 1000), y: seen.map(of), hovertemplate: "%{text}", text: seen.map((e) => size(of(e))) }, more);
  const data = [
    line("limit", "--faint", (each) => each.memory && each.memory.limit_bytes, { line: { color: "--faint", width: 1, dash: "dot" } }),
    line("in use", "--one", (each) => each.memory && each.memory.limit_bytes - each.memory.available_bytes),
    line("this process", "--three", (each) => each.memory && each.memory.process_bytes),
    line("loaded", "--two", (each) => each.progress && each.progress.loaded_bytes),
    line("budget of the run", "--two", (each) => each.progress && each.progress.budget_bytes, { line: { color: "--two", width: 1, dash: "dash" } }),
  ];
  const shades = seen.slice(1).flatMap((each, n) => each.pressure === "LOW" ? [] : [{ type: "rect", layer: "below",
    x0: seen[n].at * 1000, x1: each.at * 1000, yref: "paper", y0: 0, y1: 1, line: { width: 0 }, fillcolor: color("--two"),
    opacity: { MODERATE: 0.08, HIGH: 0.18, CRITICAL: 0.32 }[each.pressure] }]);
  draw(place, { data, layout: { shapes: shades, xaxis: { type: "date" }, yaxis: { tickformat: ".3s", ticksuffix: "B", rangemode: "tozero" } } });
}

function show(live) {
  const run = live.progress, memory = live.memory;
  const state = run ? `${run.strategy}, ${run.waits_for || `phase ${run.phase}`}${run.paused ? ", paused" : ""}`
    : live.active ? "a run is being made ready" : "no run is active";
  if (at("state").textContent !== state) at("state").textContent = state;
  if (run) at("progress").value = run.progress_percent;
  const told = [
    run ? `${run.done.toLocaleString("en")} of ${run.total.toLocaleString("en")}` : "–",
    run ? `${size(run.loaded_bytes)} of ${size(run.budget_bytes)}` : "–",
    run ? `${Number(run.items_per_second.toPrecision(3))} items/s` : "–",
    run ? duration(run.remaining_seconds) : "–",
    memory ? `${size(memory.limit_bytes - memory.available_bytes)} of ${size(memory.limit_bytes)}` : "–",
    live.pressure,
  ];
  document.querySelectorAll("#now dd").forEach((place, n) => { place.textContent = told[n]; });
  const controls = at("controls").elements;
  controls.start.disabled = live.active;
  controls.pause.disabled = !run || run.paused;
  controls.continue.disabled = !run || !run.paused;
  controls.cancel.disabled = !run;
}

let drawnAt = 0, wasActive = null;

function take(event) {
  const live = JSON.parse(event.data);
  seen.push(live);
  if (seen.length > KEPT) seen.shift();
  show(live);
  if (Date.now() - drawnAt > 1000) { drawnAt = Date.now(); drawMemory(); }
  if (wasActive && !live.active) bring("runs");
  wasActive = live.active;
}

// ------------------------------------------------------------------------------------------------- parts and runs

async function bring(part) { // one section anew, as the server makes it
  const place = at(part);
  place.setAttribute("aria-busy", "true");
  const answer = await fetch(`?part=${part}`);
  if (answer.ok) place.outerHTML = await answer.text();
  else say((await answer.json().catch(() => ({}))).error || `the server answered ${answer.status}`);
  if (answer.ok) for (const each of at(part).querySelectorAll("[data-figure]")) draw(each, JSON.parse(each.dataset.figure));
  else place.removeAttribute("aria-busy");
  offer();
}

function offer() {
  for (const link of document.querySelectorAll("a.offer"))
    link.onclick = (event) => { event.preventDefault(); link.textContent = "Working on it…"; bring(link.dataset.part); };
}

function say(text) { at("said").textContent = text; }

async function post(path, body) {
  say("");
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) say((await answer.json().catch(() => ({}))).error || `the server answered ${answer.status}`);
}

function control() {
  const form = at("controls");
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const budget = form.elements.budget_mb.value, strategy = form.elements.strategy.value;
    post("runs", Object.assign({}, strategy && { strategy }, budget && { budget_mb: Number(budget) }));
  });
  for (const name of ["pause", "continue", "cancel"])
    form.elements[name].addEventListener("click", () => post(`runs/current/${name}`, {}));
}

setTheme(keptTheme());
window.addEventListener("load", drawAll);
if (isLive) {
  control();
  offer();
  const events = new EventSource("events");
  events.addEventListener("live", take);
  events.onerror = () => { at("state").textContent = "the server does not answer; trying again"; };
}
