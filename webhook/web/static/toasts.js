// Messages that come while a page is open: a note in its corner, words for screen readers, and a count in its title.
"use strict";
{
  const SHOWN = 3; // at once
  const LINGER = 20000; // ms, of what is neither an emergency nor critical
  const LASTING = ["P0", "P1"];
  const corner = document.getElementById("toasts");
  let unseen = 0;

  const plainTitle = () => document.title.replace(/^\d+ new · /, "");
  const seen = () => document.visibilityState === "visible" && document.hasFocus();

  function count(number) {
    unseen = number;
    const title = plainTitle();
    document.title = unseen ? `${unseen} new · ${title}` : title;
    if (unseen) navigator.setAppBadge?.(unseen).catch(() => {});
    else navigator.clearAppBadge?.().catch(() => {});
  }

  /** A path of ours, as the stream names it; anything else leads nowhere. */
  function pathOf(message) {
    const url = message.actions?.find((action) => action.action === "navigate")?.url ?? "";
    return /^\/alerts\/[0-9a-f-]+$/.test(url) ? url : "/alerts";
  }

  function removed(toast) {
    const inside = toast.contains(document.activeElement);
    const next = toast.nextElementSibling ?? toast.previousElementSibling;
    toast.remove();
    if (inside) (next?.querySelector("button") ?? document.getElementById("main")).focus({ preventScroll: true });
  }

  function linger(toast) {
    setTimeout(() => {
      if (!toast.isConnected) return;
      if (toast.matches(":hover, :focus-within") || !seen()) linger(toast);
      else removed(toast);
    }, LINGER);
  }

  function add(message) {
    const template = document.getElementById(`toast-${message.severity}`);
    if (!template) return;
    const toast = template.content.firstElementChild.cloneNode(true);
    const ended = message.reason === "resolved";
    toast.dataset.alert = message.alert_id;
    toast.querySelector(".toast-ended").hidden = !ended;
    toast.querySelector(".toast-title").textContent = message.title;
    const merchant = message.merchant ?? "";
    toast.querySelector(".toast-who").textContent = message.title.includes(merchant) ? "" : merchant;
    toast.querySelector(".toast-view").href = pathOf(message);
    toast.querySelector(".toast-dismiss").addEventListener("click", () => removed(toast));
    for (const old of corner.children) if (old.dataset.alert === message.alert_id) old.remove();
    toast.dataset.rank = ended ? "P9" : message.severity; // what is over comes last
    corner.prepend(toast);
    corner.append(...[...corner.children].sort((a, b) => a.dataset.rank.localeCompare(b.dataset.rank)));
    while (corner.childElementCount > SHOWN) corner.lastElementChild.remove();
    if (ended || !LASTING.includes(message.severity)) linger(toast);
    if (!seen()) count(unseen + 1);
  }

  if (corner) {
    document.addEventListener("sentinel:notification", (event) => add(event.detail));
    document.addEventListener("sentinel:title", () => count(unseen));
    for (const name of ["visibilitychange", "focus"]) {
      addEventListener(name, () => { if (unseen && seen()) count(0); }, true);
    }
  }
}
