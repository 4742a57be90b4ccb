"use strict";
// Everything that came over the queue is put in as text nodes: nothing of it is ever parsed as HTML.

const STALE_S = 7, RETRY_S = [1, 2, 4, 8], SVG = "http://www.w3.org/2000/svg";
const by = (id) => document.getElementById(id);
const state = { glance: null, span: 3600, heardAt: 0, failures: 0, stop: null, trouble: "" };

// Elements

function make(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function draw(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A table of columns: `cell` gives a row's text or node, `kind` is the class of all cells, `mark` gives one for a row,
// and what is `wide` is left out on a phone.
function table(label, columns, rows, none, more) {
  if (!rows.length) return [make("p", { class: "none" }, none)];
  const classes = (column, row) => [column.kind, row && column.mark ? column.mark(row) : "", column.wide ? "wide" : ""].filter(Boolean).join(" ");
  const head = columns.map((column) => make("th", { scope: "col", class: classes(column) }, column.head));
  const lines = rows.map((row) => make("tr", {}, ...columns.map((column, at) => {
    const cell = column.cell(row);
    const node = make(at ? "td" : "th", { ...(at ? { "data-head": column.head } : { scope: "row" }), class: classes(column, row) }, cell);
    if (!at && typeof cell === "string") node.title = cell;
    return node;
  })));
  const made = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines));
  const parts = [make("div", { class: "table", role: "region", "aria-label": label, tabindex: "0" }, made)];
  if (more > 0) parts.push(make("p", { class: "small" }, `and ${number(more)} more`));
  return parts;
}

// Numbers

function number(value) {
  if (value >= 1e6) return `${(value / 1e6).toLocaleString("en", { maximumFractionDigits: value < 1e7 ? 2 : 1 })} M`;
  return value.toLocaleString("en", { maximumFractionDigits: value && value < 10 ? 1 : 0 });
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 s";
  if (value < 1) return `${(value * 1000).toLocaleString("en", { maximumFractionDigits: value < 0.01 ? 1 : 0 })} ms`;
  if (value < 120) return `${value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 })} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172800) return `${Math.round(value / 3600)} h`;
  return `${number(Math.round(value / 86400))} days`;
}

const share = (value) => value === 0 ? "0 %" : value < 0.001 ? "< 0.1 %" : `${(100 * value).toLocaleString("en", { maximumFractionDigits: value < 0.1 ? 1 : 0 })} %`;
const clock = (unix, withSeconds) => new Date(unix * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(withSeconds ? { second: "2-digit" } : {}) });
const version = (one) => one.model ? `${one.model}@${one.version}` : "no version";

// Charts

function nice(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= most);
}

// One series over time: `points` are [Unix seconds, value]; a gap of some steps breaks the line.
function chart(title, now, points, step, show, least) {
  const all = by("charts").clientWidth, width = all >= 876 ? (all - 36) / 2 : all;
  const height = 116, left = 52, bottom = 18, top = 8;
  const from = now - state.span;
  const inside = points.filter(([at]) => at >= from - step);
  const most = nice(Math.max(least, ...inside.map(([, value]) => value)));
  const x = (at) => left + (width - left) * Math.min(1, Math.max(0, (at - from) / state.span));
  const y = (value) => height - bottom - (height - bottom - top) * value / most;
  const current = inside.length ? inside[inside.length - 1][1] : 0;
  const worst = Math.max(0, ...inside.map(([, value]) => value));
  const told = `now ${show(current)}, at most ${show(worst)}`;
  const plot = draw("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${told}` });
  for (const part of [0, 0.5, 1]) {
    plot.append(draw("line", { class: "grid", x1: left, x2: width, y1: y(most * part), y2: y(most * part) }));
    plot.append(draw("text", { x: left - 6, y: y(most * part) + 4, "text-anchor": "end" }, show(most * part)));
  }
  for (const part of [0, 0.5, 1]) {
    const anchor = part === 0 ? "start" : part === 1 ? "end" : "middle";
    plot.append(draw("text", { x: left + (width - left) * part, y: height - 3, "text-anchor": anchor }, clock(from + state.span * part)));
  }
  const runs = [];
  inside.forEach((point, at) => {
    if (!at || point[0] - inside[at - 1][0] > 3.5 * step) runs.push([]);
    runs[runs.length - 1].push(point);
  });
  for (const run of runs) {
    const line = run.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
    if (run.length === 1) {
      plot.append(draw("circle", { class: "dot", cx: x(run[0][0]), cy: y(run[0][1]), r: 2 }));
    } else {
      plot.append(draw("path", { class: "area", d: `M${x(run[0][0]).toFixed(1)},${y(0)}L${line.join("L")}L${x(run[run.length - 1][0]).toFixed(1)},${y(0)}Z` }));
      plot.append(draw("polyline", { class: "line", points: line.join(" ") }));
    }
  }
  const readout = make("span", {}, told);
  const cursor = draw("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
  plot.append(cursor);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const at = from + state.span * ((event.clientX - box.left) / box.width * width - left) / (width - left);
    const nearest = inside.reduce((best, point) => !best || Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best, null);
    if (!nearest) return;
    cursor.setAttribute("x1", x(nearest[0]));
    cursor.setAttribute("x2", x(nearest[0]));
    cursor.setAttribute("visibility", "visible");
    readout.textContent = `${clock(nearest[0], step < 60)}: ${show(nearest[1])}`;
  });
  plot.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    readout.textContent = told;
  });
  return make("figure", {}, make("figcaption", {}, make("b", {}, title), readout), plot);
}

function charts(glance) {
  // The short ring has the last minutes, the long one has what was before them.
  const short = glance.history["2"] || [], long = glance.history["60"] || [];
  const isShort = state.span <= 300;
  const since = short.length ? short[0][0] : Infinity;
  const points = isShort ? short : [...long.filter(([at]) => at < since), ...worst(short, 15)];
  const step = isShort ? 2 : 60;
  const made = [];
  for (const [lane, at] of [["online", 1], ["bulk", 3]]) {
    made.push(chart(`${lane}: oldest request`, glance.at, points.map((point) => [point[0], point[at + 1] / 1000]), step, seconds, 0.1));
    made.push(chart(`${lane}: requests waiting`, glance.at, points.map((point) => [point[0], point[at]]), step, number, 10));
  }
  return made;
}

// The worst moment of each step of some seconds.
function worst(points, step) {
  const steps = new Map();
  for (const point of points) {
    const at = Math.floor(point[0] / step) * step, before = steps.get(at);
    steps.set(at, before ? [at, ...point.slice(1).map((value, n) => Math.max(value, before[n + 1]))] : [at, ...point.slice(1)]);
  }
  return [...steps.values()];
}

// Sections

function tiles(glance) {
  const { online, bulk } = glance.lanes;
  const known = glance.window_s > 0;
  const total = (of) => glance.versions.reduce((sum, one) => sum + of(one), 0);
  const records = total((one) => one.records_per_s);
  const requests = total((one) => one.requests_per_s);
  const judged = Math.max(requests, records);
  const rejected = judged ? total((one) => one.rejected_share * Math.max(one.requests_per_s, one.records_per_s)) / judged : 0;
  const scoring = glance.workers.filter((one) => !one.is_main).length + glance.workers_left_out;
  const rows = [
    ["Oldest online", seconds(online.oldest_waiting_s), `${number(online.waiting)} waiting, ${number(online.scoring)} being scored`],
    ["Oldest bulk", seconds(bulk.oldest_waiting_s), `${number(bulk.waiting)} waiting, ${number(bulk.scoring)} being scored`],
    ["Records", known ? `${number(records)}/s` : "–", known ? `in ${number(requests)} requests/s` : "after the second reading"],
    ["Rejected", known ? share(rejected) : "–", "of records and requests"],
    ["Busy", glance.busy_share === null ? "–" : share(glance.busy_share), `${number(scoring)} ${scoring === 1 ? "process" : "processes"}`],
    ["Dead letters", number(glance.dead), glance.dead ? "scoreline dead-letters" : ""],
  ];
  return rows.flatMap(([name, value, more]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, make("small", {}, more))));
}

function split(one, most) {
  const waited = one.waited ? one.waited.p99_s : 0, scored = one.scored ? one.scored.p99_s : 0;
  const wide = (value) => (100 * value / most).toFixed(2);
  const label = `99 of 100 waited up to ${seconds(waited)} and were scored within ${seconds(scored)}`;
  return draw("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", role: "img", "aria-label": label },
    draw("rect", { class: "wait", x: 0, y: 1, height: 10, width: wide(waited) }),
    draw("rect", { class: "score", x: wide(waited), y: 1, height: 10, width: wide(scored) }));
}

function versions(glance) {
  const rows = glance.versions.filter((one) => one.model || one.requests_per_s).sort((a, b) => b.records_per_s - a.records_per_s);
  const most = Math.max(0.001, ...rows.map((one) => (one.waited ? one.waited.p99_s : 0) + (one.scored ? one.scored.p99_s : 0)));
  const time = (name, quantile) => (one) => one[name] ? `≤ ${seconds(one[name][quantile])}` : "–";
  const made = table("Models and versions", [
    { head: "version", cell: version, kind: "text" },
    { head: "records/s", cell: (one) => number(one.records_per_s) },
    { head: "requests/s", cell: (one) => number(one.requests_per_s), wide: true },
    { head: "rejected", cell: (one) => share(one.rejected_share), mark: (one) => one.rejected_share > 0.01 ? "bad" : "" },
    { head: "waiting p50", cell: time("waited", "p50_s"), wide: true },
    { head: "waiting p99", cell: time("waited", "p99_s"), wide: true },
    { head: "scoring p50", cell: time("scored", "p50_s"), wide: true },
    { head: "scoring p99", cell: time("scored", "p99_s"), wide: true },
    { head: "p99", cell: (one) => split(one, most), kind: "text bar" },
    { head: "records in all", cell: (one) => number(one.records), wide: true },
  ], rows, "Nothing has been scored yet.");
  if (rows.length) {
    made.push(make("p", { class: "small" }, `of the last ${seconds(Math.round(glance.window_s))};`,
      make("span", { class: "key" }), "waiting for a worker", make("span", { class: "key score" }), "being scored"));
  }
  return made;
}

const releases = (glance) => table("Releases", [
  { head: "alias", cell: (one) => one.name, kind: "text" },
  { head: "answers", cell: (one) => one.serving === null ? "nothing" : `version ${one.serving}` },
  { head: "processes", cell: (one) => number(one.processes) },
  { head: "released", cell: (one) => one.wanted === null ? "–" : `version ${one.wanted}` },
  {
    head: "state",
    cell: (one) => one.refused ? `refused: ${one.refused}` : one.wanted === one.serving ? "✓ in force" : "loading …",
    kind: "text long",
    mark: (one) => one.refused ? "bad" : one.wanted === one.serving ? "good" : "",
  },
], glance.releases, "No process serves a model: there is no release yet, or the first version is being loaded.");

function bar(percent) {
  return draw("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", role: "img", "aria-label": `${Math.floor(percent)} % done` },
    draw("rect", { class: "rest", x: 0, y: 1, height: 10, width: 100 }),
    draw("rect", { class: "wait", x: 0, y: 1, height: 10, width: percent.toFixed(2) }));
}

const jobs = (glance) => table("Bulk jobs", [
  { head: "file", cell: (one) => one.progress ? one.progress.source : `job ${one.id}`, kind: "text" },
  { head: "version", cell: (one) => one.progress ? version(one.progress) : "–", kind: "text", wide: true },
  { head: "owner", cell: (one) => one.progress && one.progress.owner || "–", kind: "text" },
  { head: "from", cell: (one) => one.progress ? one.progress.host : "–", kind: "text", wide: true },
  { head: "rows", cell: (one) => one.progress ? number(one.progress.rows) : "–" },
  { head: "rejected", cell: (one) => one.progress ? number(one.progress.rejected) : "–", wide: true },
  { head: "rows/s", cell: (one) => one.progress ? number(one.progress.rows_per_s) : "–", wide: true },
  { head: "done", cell: (one) => one.progress && one.progress.percent !== null ? bar(Math.min(100, one.progress.percent)) : "–", kind: "text bar" },
  { head: "", cell: (one) => one.progress && one.progress.percent !== null ? `${Math.floor(one.progress.percent)} %` : "" },
  { head: "left", cell: (one) => one.progress ? seconds(one.progress.seconds_left) : "–" },
], glance.jobs, "No bulk job is running.", glance.job_count - glance.jobs.length);

const errors = (glance) => table("Errors", [
  { head: "code", cell: (one) => one.code, kind: "text" },
  { head: "column", cell: (one) => one.column ?? "–", kind: "text" },
  { head: "version", cell: version, kind: "text" },
  { head: `last ${seconds(Math.round(glance.window_s))}`, cell: (one) => number(one.recent), mark: (one) => one.recent ? "bad" : "" },
  { head: "records in all", cell: (one) => number(one.records), wide: true },
  { head: "requests in all", cell: (one) => number(one.requests), wide: true },
], glance.errors, "No record was rejected, and no request refused.");

const letters = (glance) => table("Dead letters", [
  { head: "given up", cell: (one) => `${new Date(one.died_at * 1000).toLocaleDateString("en-CA")} ${clock(one.died_at, true)}`, kind: "text" },
  { head: "model", cell: (one) => one.model, kind: "text" },
  { head: "lane", cell: (one) => one.lane, kind: "text", wide: true },
  { head: "why", cell: (one) => one.reason, kind: "text long" },
], glance.letters, glance.dead ? "This page may not read them." : "No request has ended the processes that scored it.", glance.letters.length ? glance.dead - glance.letters.length : 0);

function workers(glance) {
  const made = table("Workers", [
    { head: "process", cell: (one) => one.name + (one.is_main ? " (main)" : ""), kind: "text" },
    { head: "host", cell: (one) => one.host, kind: "text", wide: true },
    { head: "up for", cell: (one) => seconds(Math.floor(one.up_s)) },
    { head: "records", cell: (one) => one.is_main ? "" : number(one.records) },
    { head: "requests", cell: (one) => one.is_main ? "" : number(one.requests), wide: true },
    { head: "memory", cell: (one) => one.resident_bytes ? `${number(one.resident_bytes / 2 ** 20)} MiB` : "–" },
    { head: "last report", cell: (one) => `${seconds(Math.floor(one.reported_ago_s))} ago`, mark: (one) => one.reported_ago_s > 5 ? "bad" : "", wide: true },
    { head: "versions in memory", cell: (one) => one.versions.join(", ") || "–", kind: "text long" },
  ], glance.workers, "No worker is alive. Start one: celery -A scoreline_tasks worker", glance.workers_left_out);
  if (glance.unreadable) made.push(make("p", { class: "small bad" }, `${number(glance.unreadable)} reports of processes cannot be read: of another release, or made up`));
  return made;
}

const SECTIONS = { tiles, charts, versions, releases, jobs, errors, letters, workers };

function show(glance) {
  state.glance = glance;
  document.title = `${seconds(glance.lanes.online.oldest_waiting_s)} · ${glance.queue} · Scoreline`;
  by("queue").textContent = glance.queue;
  by("main").hidden = false;
  for (const [id, section] of Object.entries(SECTIONS)) {
    const place = by(id);
    // What somebody points at, has selected or scrolled stays for a moment.
    if (id === "charts" && place.matches(":hover")) continue;
    const scrolled = place.querySelector(".table"), left = scrolled ? scrolled.scrollLeft : 0;
    const isFocused = scrolled && scrolled === document.activeElement;
    place.replaceChildren(...section(glance));
    const after = place.querySelector(".table");
    if (after && left) after.scrollLeft = left;
    if (after && isFocused) after.focus({ preventScroll: true });
  }
}

// The stream

function tell(kind, text) {
  const place = by("state");
  if (place.textContent !== text) place.textContent = text;
  place.className = `state ${kind}`;
  document.body.classList.toggle("stale", kind === "trouble" && state.glance !== null);
}

function check() {
  const silent = (Date.now() - state.heardAt) / 1000;
  by("moment").textContent = state.glance ? `as of ${clock(state.glance.at, true)}` : "";
  if (document.hidden) tell("waiting", "paused");
  else if (state.trouble) tell("trouble", state.trouble);
  else if (state.glance && silent > STALE_S) tell("trouble", `no news for ${seconds(Math.floor(silent))}, connecting again …`);
  else if (state.glance && !state.failures) tell("live", "live");
  else tell("waiting", "connecting …");
}

function heard(event) {
  const kind = (/^event: (.*)$/m.exec(event) || [])[1], data = (/^data: (.*)$/m.exec(event) || [])[1];
  if (!data) return;
  state.heardAt = Date.now();
  state.failures = 0;
  const told = JSON.parse(data);
  state.trouble = kind === "trouble" ? told.message : "";
  if (kind === "glance") show(told);
  check();
}

async function follow(signal) {
  const token = sessionStorage.getItem("scoreline-token");
  const headers = { Accept: "text/event-stream", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch("status/events", { headers, signal, cache: "no-store" });
  by("ask").hidden = answer.status !== 401 && answer.status !== 403;
  if (!by("ask").hidden) {
    state.trouble = token ? "the token is not known, or does not have the right to see this" : "a token is needed";
    sessionStorage.removeItem("scoreline-token");
    check();
    return false;
  }
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return true;
    const events = (text + value).split("\n\n");
    text = events.pop();
    events.forEach(heard);
  }
}

async function run() {
  if (state.stop) return;
  const stop = state.stop = new AbortController();
  while (!stop.signal.aborted) {
    // A connection that brings nothing any more is given up.
    const once = new AbortController();
    const end = () => once.abort();
    stop.signal.addEventListener("abort", end);
    state.heardAt = Date.now();
    const watch = setInterval(() => { if (Date.now() - state.heardAt > 15000) once.abort(); }, 1000);
    try {
      if (!await follow(once.signal)) break;
    } catch (error) {
      if (stop.signal.aborted) break;
      state.trouble = "the gateway cannot be reached, connecting again …";
    } finally {
      clearInterval(watch);
      stop.signal.removeEventListener("abort", end);
    }
    check();
    const pause = RETRY_S[Math.min(state.failures++, RETRY_S.length - 1)] * (0.75 + Math.random() / 2);
    await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
  }
  if (state.stop === stop) state.stop = null;
}

function pause() {
  if (state.stop) state.stop.abort();
  state.stop = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) pause();
  else run();
  check();
});
by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("scoreline-token", by("token").value.trim());
  by("token").value = "";
  state.trouble = "";
  run();
});
document.querySelector(".choice").addEventListener("click", (event) => {
  const chosen = event.target.closest("button");
  if (!chosen) return;
  state.span = Number(chosen.dataset.span);
  for (const button of chosen.parentNode.children) button.setAttribute("aria-pressed", String(button === chosen));
  if (state.glance) by("charts").replaceChildren(...charts(state.glance));
});
addEventListener("resize", () => { if (state.glance) by("charts").replaceChildren(...charts(state.glance)); });
setInterval(check, 1000);
if (!document.hidden) run();
