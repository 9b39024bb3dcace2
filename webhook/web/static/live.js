// Keeps a page fresh: listens for changes, fetches the page's parts anew and puts in what has changed.
// Everything works without it. Nothing here builds HTML from data: what is put in was rendered by the server.
"use strict";

const REFRESH_PAUSE = 1000; // ms between two refreshes at least
const POLL_WITHOUT_STREAM = 20000; // ms, while no stream can be had
const RELATIVE_EVERY = 15000; // ms

const { live: streamUrl, since, alert: alertId, triggers: showsTriggers } = document.body.dataset;
const indicator = document.getElementById("live");
let failures = 0;
let refreshing = false;
let pending = false;

function say(text) {
  document.getElementById("announce").textContent = text;
}

// ---- times -------------------------------------------------------------------------------------

const localTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const spans = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = spans.findIndex(([size]) => seconds >= size);
  if (first < 0 || first === 3) return `${seconds} s`;
  const [size, unit] = spans[first];
  const [smaller, restUnit] = spans[first + 1];
  const rest = first < 2 ? Math.floor((seconds % size) / smaller) : 0; // seconds say nothing beside minutes
  const whole = `${Math.floor(seconds / size)} ${unit}`;
  return rest ? `${whole} ${rest} ${restUnit}` : whole;
}

function showTimes(root) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[data-time]")) {
    const at = new Date(element.dateTime);
    if (!element.dataset.local) {
      element.dataset.local = "yes";
      const utc = element.title ? `${element.title}\n` : "";
      element.title = `${utc}${localTime.format(at)} (your time)`;
    }
    const span = now - at;
    if (element.dataset.time === "lasting") element.textContent = duration(span);
    if (element.dataset.time === "ago") {
      if (Math.abs(span) < 10000) element.textContent = "just now";
      else element.textContent = span > 0 ? `${duration(span)} ago` : `in ${duration(-span)}`;
    }
  }
}

// ---- putting in what has changed ---------------------------------------------------------------

const SHOWN_DIFFERENTLY = { time: "time[data-time]", token: "input[name=csrf_token], input.seen" };

/** What the server rendered, without what differs at every rendering. */
function essence(region) {
  const copy = region.cloneNode(true);
  for (const time of copy.querySelectorAll(SHOWN_DIFFERENTLY.time)) {
    time.textContent = time.title = "";
    delete time.dataset.local;
  }
  for (const token of copy.querySelectorAll(SHOWN_DIFFERENTLY.token)) token.setAttribute("value", "");
  return copy.innerHTML;
}

const essences = new Map();

function remember() {
  for (const region of document.querySelectorAll("[data-region]")) essences.set(region.id, essence(region));
}

function inUse(region) {
  if (!("form" in region.dataset)) return false;
  if (document.querySelector("dialog[open]") || region.contains(document.activeElement)) return true;
  return [...region.querySelectorAll("textarea, input[type=radio]")].some(
    (field) => (field.type === "radio" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue),
  );
}

function warn(region) {
  if (region.querySelector(".stale")) return;
  const note = document.createElement("p");
  note.className = "stale";
  note.setAttribute("role", "status");
  note.textContent = "This part has changed meanwhile; what you typed is kept. Load the page anew to see it.";
  region.querySelector("h2").after(note);
}

function replaceRegion(old, fresh) {
  const open = new Set([...old.querySelectorAll("details[open][id]")].map((part) => part.id));
  const known = new Set([...old.querySelectorAll("[data-key]")].map((part) => part.dataset.key));
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  for (const part of fresh.querySelectorAll("details[id]")) if (open.has(part.id)) part.open = true;
  let arrived = 0;
  for (const part of fresh.querySelectorAll("[data-key]")) {
    if (known.has(part.dataset.key)) continue;
    part.classList.add("is-new");
    arrived += 1;
  }
  old.replaceChildren(...fresh.childNodes);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  return arrived;
}

function putIn(page) {
  let arrived = 0;
  let changed = 0;
  for (const old of document.querySelectorAll("[data-region]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh) continue;
    const next = essence(fresh);
    if (next === essences.get(old.id)) continue;
    if (inUse(old)) {
      warn(old);
      continue;
    }
    essences.set(old.id, next);
    const came = replaceRegion(old, fresh);
    changed += 1;
    if (old.id === "alerts") arrived = came;
  }
  for (const field of document.querySelectorAll("input.seen")) {
    const fresh = page.querySelector(`input.seen[name=${field.name}]`);
    const kept = field.closest("[data-region]")?.querySelector(".stale"); // this part is older than the page says
    if (fresh && !kept) field.value = fresh.value;
  }
  const title = page.querySelector("title");
  if (title && title.textContent !== document.title) {
    document.title = title.textContent;
    document.dispatchEvent(new Event("sentinel:title"));
  }
  if (arrived) say(arrived === 1 ? "One new alert." : `${arrived} new alerts.`);
  else if (changed && alertId) say("This alert was updated.");
}

async function refresh() {
  if (refreshing) {
    pending = true;
    return;
  }
  refreshing = true;
  try {
    const response = await fetch(location.href, { headers: { "X-Sentinel-Fragment": "1" }, cache: "no-store" });
    if (response.redirected && new URL(response.url).pathname === "/login") {
      location.assign(response.url);
      return;
    }
    if (response.ok) {
      putIn(new DOMParser().parseFromString(await response.text(), "text/html"));
      showTimes(document);
    }
  } catch {
    // The stream's own state says that the connection is gone; the next event tries again.
  }
  setTimeout(() => {
    refreshing = false;
    if (pending) {
      pending = false;
      refresh();
    }
  }, REFRESH_PAUSE);
}

// ---- the stream --------------------------------------------------------------------------------

function show(state, word) {
  indicator.hidden = false;
  if (indicator.dataset.state === state) return;
  indicator.dataset.state = state;
  indicator.querySelector(".live-word").textContent = word;
}

let cursor = since;

function concerns(change) {
  if (change.many) return true;
  if (alertId) return change.alerts.includes(alertId);
  return showsTriggers ? change.triggers : change.alerts.length > 0; // of triggers it shows a count, no more
}

function listen() {
  const stream = new EventSource(`${streamUrl}?since=${encodeURIComponent(cursor)}`);
  let opened = false;
  stream.addEventListener("open", () => {
    opened = true;
    failures = 0;
    show("on", "Live");
  });
  stream.addEventListener("change", (event) => {
    cursor = event.lastEventId || cursor;
    if (concerns(JSON.parse(event.data))) refresh();
  });
  stream.addEventListener("notification", (event) => {
    cursor = event.lastEventId || cursor;
    document.dispatchEvent(new CustomEvent("sentinel:notification", { detail: JSON.parse(event.data) }));
  });
  stream.addEventListener("reset", (event) => { // more was missed than can be told
    cursor = event.lastEventId || cursor;
    refresh();
  });
  stream.addEventListener("error", () => {
    show("wait", "Reconnecting");
    if (stream.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
    failures += 1;
    if (!opened || failures > 1) refresh(); // also finds out that somebody has been logged out
    setTimeout(listen, Math.min(POLL_WITHOUT_STREAM, 1000 * 2 ** failures));
  });
  addEventListener("pagehide", () => stream.close(), { once: true });
}

// ---- confirming --------------------------------------------------------------------------------

function described(form) {
  const data = new FormData(form);
  return [data.get("reason"), data.get("note") || data.get("detail")].filter(Boolean).join(": ");
}

function confirmFirst(event) {
  const form = event.target.closest("form[data-confirm]");
  const dialog = document.getElementById("confirm");
  if (!form || !dialog?.showModal) return; // the server asks instead
  if (form.elements.reason?.value === "Other" && !form.elements.detail.value.trim()) return; // and says what is missing
  event.preventDefault();
  document.getElementById("confirm-title").textContent = form.dataset.confirm;
  document.getElementById("confirm-text").textContent = described(form);
  dialog.returnValue = "";
  dialog.addEventListener(
    "close",
    () => {
      if (dialog.returnValue !== "yes") return;
      const confirmed = document.createElement("input");
      Object.assign(confirmed, { type: "hidden", name: "confirmed", value: "yes" });
      form.append(confirmed);
      form.submit();
    },
    { once: true },
  );
  dialog.showModal();
}

/** A chart that cannot be had leaves a word in its place; errors of images do not bubble, so they are captured. */
function missingChart(event) {
  const figure = event.target.closest?.("figure.chart");
  if (!figure) return;
  figure.querySelector("picture").hidden = true;
  figure.querySelector(".chart-missing").hidden = false;
}

document.addEventListener("submit", confirmFirst);
document.addEventListener("error", missingChart, true);
for (const image of document.querySelectorAll("figure.chart img")) {
  if (image.complete && image.naturalWidth === 0 && image.currentSrc) missingChart({ target: image });
}
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
showTimes(document);
setInterval(() => showTimes(document), RELATIVE_EVERY);
if (streamUrl) {
  remember();
  listen();
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return; // shown again from the browser's memory: the stream was closed then
    refresh();
    listen();
  });
}
