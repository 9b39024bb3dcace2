// Shows push messages, also while no page is open. It fetches nothing and keeps nothing.
"use strict";

const WORDS = { P0: "Emergency", P1: "Critical", P2: "High", P3: "Warning" };
const PAGES = "/alerts";

/** The path of a page of ours; whatever else a message names is not opened. */
function ownPath(url) {
  try {
    const target = new URL(url ?? PAGES, self.location.origin);
    return target.origin === self.location.origin ? target.pathname + target.search : PAGES;
  } catch {
    return PAGES;
  }
}

function read(data) {
  try {
    return data?.json() ?? {};
  } catch {
    return {};
  }
}

function headOf(message) {
  const title = message.title ?? "Sentinel";
  if (message.reason === "resolved") return /\bended\b/i.test(title) ? title : `Ended: ${title}`;
  return message.severity in WORDS ? `${message.severity} ${WORDS[message.severity]}: ${title}` : title;
}

function show(message) {
  const view = message.actions?.find((action) => action.action === "navigate");
  const grave = ["P0", "P1"].includes(message.severity) && message.reason !== "resolved";
  const actions = [{ action: "dismiss", title: "Dismiss" }];
  if (view) actions.unshift({ action: "view", title: "View" });
  return self.registration.showNotification(headOf(message), {
    body: [message.merchant, message.body].filter(Boolean).join("\n"),
    tag: message.alert_id ?? "sentinel", // one notification for each alert: a newer one takes its place
    renotify: true,
    requireInteraction: grave,
    timestamp: Date.parse(message.timestamp) || Date.now(),
    data: { path: ownPath(view?.url) },
    actions,
  });
}

async function open(path) {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = pages.find((page) => new URL(page.url).pathname === path);
  if (there) return there.focus();
  return self.clients.openWindow(path);
}

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("push", (event) => event.waitUntil(show(read(event.data))));
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  if (event.action !== "dismiss") event.waitUntil(open(event.notification.data?.path ?? PAGES));
});
