// Subscribes this browser to push messages, when its reader asks for it, and keeps the subscription in force.
"use strict";
{
  const API = "/api/v1/push";
  const SEVERITY = "sentinel-push-severity"; // in localStorage: from which on this browser is told
  const SYNCED = "sentinel-push-synced"; // in sessionStorage: as whom this tab has told the server
  const card = document.getElementById("push");
  const visitor = document.querySelector(".visitor")?.textContent ?? "";
  const supported = "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
  let subscriptionId = null;

  async function ask(method, path, body) {
    const headers = { "X-CSRFToken": document.querySelector("input[name=csrf_token]").value };
    if (body) headers["Content-Type"] = "application/json";
    const response = await fetch(API + path, { method, headers, body: body && JSON.stringify(body), keepalive: true });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail ?? `HTTP ${response.status}`);
    return answer;
  }

  const worker = () => navigator.serviceWorker.register("/service-worker.js", { scope: "/" });

  async function present() {
    const registration = supported ? await navigator.serviceWorker.getRegistration("/") : undefined;
    return registration?.pushManager.getSubscription() ?? null;
  }

  function bytes(base64url) {
    const text = atob(base64url.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(text, (character) => character.charCodeAt(0));
  }

  const same = (key, other) => key.length === other.length && key.every((byte, place) => byte === other[place]);

  /** The server's record of this browser; it may be another's since somebody else logged in here. */
  async function tell(subscription) {
    const severity = localStorage.getItem(SEVERITY) ?? "P3";
    const record = await ask("POST", "/subscriptions", { ...subscription.toJSON(), min_severity: severity });
    sessionStorage.setItem(SYNCED, visitor);
    subscriptionId = record.id;
    return record;
  }

  async function subscribe(key) {
    const registration = await worker();
    await navigator.serviceWorker.ready;
    const options = { userVisibleOnly: true, applicationServerKey: bytes(key) };
    return tell(await registration.pushManager.subscribe(options));
  }

  /** Subscribes anew where the server's key is another one now: with the old one nothing can be sent. */
  async function renew(subscription, key) {
    const used = subscription.options?.applicationServerKey;
    if (!used || same(new Uint8Array(used), bytes(key))) return tell(subscription);
    await subscription.unsubscribe();
    return subscribe(key);
  }

  async function end() {
    const subscription = await present();
    if (!subscription) return;
    const record = subscriptionId ? { id: subscriptionId } : await tell(subscription);
    await ask("DELETE", `/subscriptions/${record.id}`);
    await subscription.unsubscribe();
    sessionStorage.removeItem(SYNCED);
    subscriptionId = null;
  }

  // ---- the control on the page of settings -----------------------------------------------------

  const WORDS = {
    on: "On: this browser shows new alerts, also while no page is open.",
    off: "Off.",
    blocked: "Blocked: this browser does not let this site show notifications. Allow it beside the address, then load this page anew.",
    unsupported: "Not possible: this browser cannot take push messages. It may need HTTPS, or, on an iPhone, this site on the home screen.",
    closed: "Not set up: whoever runs Sentinel has not set up push messages. An open page shows new alerts all the same.",
    unknown: "Not known: the server cannot be asked now. Load this page anew.",
  };

  function show(state) {
    card.dataset.state = state;
    card.querySelector(".push-word").textContent = WORDS[state];
    for (const part of card.querySelectorAll("[data-when]")) part.hidden = !part.dataset.when.split(" ").includes(state);
  }

  const say = (text) => { card.querySelector("#push-said").textContent = text; };

  async function state(key) {
    if (!supported) return "unsupported";
    if (!key) return "closed";
    if (Notification.permission === "denied") return "blocked";
    const subscription = await present();
    if (!subscription) return "off";
    await renew(subscription, key);
    return "on";
  }

  /** Runs what a button asks for; no other can be pressed meanwhile. */
  function onClick(id, work) {
    const button = card.querySelector(id);
    button.addEventListener("click", async () => {
      const buttons = [...card.querySelectorAll("button")];
      for (const one of buttons) one.disabled = true;
      say("");
      try {
        await work();
      } catch (error) {
        say(Notification.permission === "denied" ? "" : `That did not work: ${error.message}`);
        if (Notification.permission === "denied") show("blocked");
      }
      for (const one of buttons) one.disabled = false;
      if (button.hidden || button.closest("[hidden]")) card.querySelector("button:not([hidden])")?.focus();
    });
  }

  async function control() {
    const severity = card.querySelector("#push-severity");
    severity.value = localStorage.getItem(SEVERITY) ?? "P3";
    let key = null;
    try {
      key = (await ask("GET", "/key")).public_key;
      show(await state(key));
    } catch {
      show("unknown");
    }
    onClick("#push-on", async () => {
      if ((await Notification.requestPermission()) !== "granted") {
        show(Notification.permission === "denied" ? "blocked" : "off");
        return;
      }
      await subscribe(key);
      show("on");
    });
    onClick("#push-off", async () => {
      await end();
      show("off");
    });
    onClick("#push-test", async () => {
      await ask("POST", `/subscriptions/${subscriptionId}/test`);
      say("Sent. It should appear within seconds.");
    });
    severity.addEventListener("change", async () => {
      localStorage.setItem(SEVERITY, severity.value);
      const subscription = await present();
      if (!subscription) return;
      try {
        await tell(subscription);
        say("Saved.");
      } catch (error) {
        say(`That was not saved: ${error.message}`);
      }
    });
  }

  // ---- every page ------------------------------------------------------------------------------

  /** A new login takes this browser over, so that it is told what its reader may read and no more. */
  async function sync() {
    const subscription = await present();
    if (!subscription || sessionStorage.getItem(SYNCED) === visitor) return;
    const { public_key: key } = await ask("GET", "/key");
    if (key) await renew(subscription, key);
  }

  /** Who logs out is not told any more in this browser. */
  function onLeaving(event) {
    const form = event.target.closest("form.leave");
    if (!form || form.dataset.ended || !supported) return;
    event.preventDefault();
    form.dataset.ended = "yes";
    const late = new Promise((resolve) => { setTimeout(resolve, 2000); });
    Promise.race([end().catch(() => {}), late]).finally(() => form.submit());
  }

  if (supported) document.addEventListener("submit", onLeaving);
  if (card) control();
  else if (supported) sync().catch(() => {});
}
