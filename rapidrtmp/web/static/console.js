"use strict";
/*
 * The console: shows what the management API tells, and asks it to change things. It logs in by the session's cookie;
 * the token of this page goes with all that changes something.
 */
import { plot } from "./plots.js";
import { copy } from "./share.js";
import { clock, megabits, timeOfDay } from "./words.js";

const STREAMS_MS = 3000;
const RECORDINGS_MS = 15000;
const POSTER_MS = 10000;
const MOST_EVENTS = 100;
const PER_PAGE = 20;
const EVENTS_THAT_CHANGE_RECORDINGS = /recording/;
const root = new URL("/", location.href);
const watching = new URL(document.body.dataset.public); // the door that viewers come by
const element = (id) => document.getElementById(id);
const token = element("token").value;
const cards = new Map();

// ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────────

async function ask(path, method = "GET", body = undefined) {
  const headers = method === "GET" ? {} : { "X-RapidRTMP-Token": token, "Content-Type": "application/json" };
  const answer = await fetch(new URL(path, root), { method, headers, cache: "no-store", body: body && JSON.stringify(body) });
  if (answer.status === 401) location.reload(); // the session is over
  const isText = !(answer.headers.get("Content-Type") || "").includes("json");
  const found = isText ? await answer.text() : await answer.json();
  if (!answer.ok && answer.status !== 503) throw new Error(found.error || String(answer.status));
  return found;
}

/* Do something, and say how it went. */
async function act(words, ...request) {
  try {
    const found = await ask(...request);
    say(words);
    return found;
  } catch (error) {
    say("That did not work: " + error.message);
    return null;
  }
}

function say(words) {
  element("said").hidden = !words;
  element("said").textContent = words;
}

/* Ask the operator; resolves to whether the answer is yes. */
function confirmed(words) {
  const dialog = element("confirm");
  element("confirm-words").textContent = words;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/* An element with attributes and children; text is escaped by the browser. */
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function button(words, label, pressed, kind = "plain") {
  return make("button", { type: "button", class: kind, "aria-label": label, onclick: pressed }, words);
}

function write(where, words) {
  if (where.textContent !== words) where.textContent = words;
}

const bytes = (size) => (size >= 1e9 ? (size / 1e9).toFixed(1) + " GB" : (size / 1e6).toFixed(1) + " MB");

// ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────

class Card {
  constructor(stream) {
    this.name = stream.app + "/" + stream.streamKey;
    this.path = "api/v1/streams/" + encodeURIComponent(stream.app) + "/" + encodeURIComponent(stream.streamKey);
    this.still = make("video", { class: "still", muted: "", playsinline: "", preload: "auto", "aria-label": "Latest picture of " + this.name });
    this.still.muted = true;
    this.stillAt = -Infinity;
    this.health = make("p", { class: "health" });
    this.facts = make("p");
    this.record = button("Record", "Record " + this.name, () => this.toggleRecord());
    const actions = make("div", { class: "row" },
      make("a", { class: "plain", href: new URL(stream.pageUrl, watching), "aria-label": "Watch " + this.name }, "Watch"),
      this.record,
      make("a", { class: "plain", href: new URL(stream.pageUrl + "/clip.mp4?from=-30s", watching), download: "", "aria-label": "Clip 30 s of " + this.name }, "Clip 30 s"),
      button("Stop", "Stop " + this.name, () => this.stop(), "plain danger"));
    this.plots = make("div", { class: "plots" });
    this.tracks = make("ul");
    this.sinks = make("ul");
    this.rungs = make("ul");
    this.rungPart = make("div", { hidden: "" }, make("h4", {}, "Ladder"), this.rungs);
    this.relays = make("ul");
    this.relayUrl = make("input", { type: "text", "aria-label": "Relay to URL of " + this.name, required: "", placeholder: "rtmps://host/app", autocomplete: "off", spellcheck: "false" });
    this.relayKey = make("input", { type: "password", "aria-label": "Key of the relay of " + this.name, autocomplete: "off" });
    const relay = make("form", { class: "row", onsubmit: (event) => this.addRelay(event) },
      make("label", {}, "URL ", this.relayUrl), make("label", {}, "Key ", this.relayKey),
      make("button", { type: "submit", class: "plain" }, "Add relay"));
    this.relayPart = make("div", {}, make("h4", {}, "Relays"), this.relays, relay);
    this.details = make("details", { ontoggle: () => this.look() },
      make("summary", {}, "More of " + this.name), this.plots,
      make("h4", {}, "Tracks and sizes"), this.tracks, this.rungPart, make("h4", {}, "Sinks"), this.sinks, this.relayPart);
    this.root = make("article", { class: "card", "aria-label": this.name }, this.still,
      make("div", {}, make("h3", {}, this.name), this.health, this.facts, actions), this.details);
  }

  show(stream) {
    this.stream = stream;
    const { health } = stream;
    this.health.dataset.verdict = health.verdict;
    const advice = health.findings.map((finding) => finding.advice).join(" ");
    write(this.health, stream.state !== "live" ? "The stream is " + stream.state : advice || (health.verdict === "good" ? "All is well" : "Not known yet"));
    const size = stream.resolution ? stream.resolution + (stream.frameRate ? ` at ${stream.frameRate}/s` : "") : "no picture";
    write(this.facts, [`${stream.viewers} viewers`, megabits(stream.bitrate), size, clock(stream.duration * 1000), stream.peer || "no publisher"].join(" · "));
    this.isRecorded = stream.sinks.some((sink) => sink.name === "record");
    write(this.record, this.isRecorded ? "Stop recording" : "Record");
    this.record.setAttribute("aria-label", this.record.textContent + " " + this.name);
    if (performance.now() - this.stillAt > POSTER_MS && !document.hidden) {
      this.stillAt = performance.now();
      this.still.src = new URL(this.path + "/poster.mp4?" + Math.round(this.stillAt), root);
    }
    this.look();
  }

  async look() {
    if (!this.details.open || !this.stream) return;
    list(this.tracks, this.stream.tracks.map((track) => [
      `${track.id}: ${track.codecName}`, track.width ? `${track.width}×${track.height}, ${track.frameRate}/s` : `${track.sampleRate} Hz, ${track.channels} channels`,
      track.language === "und" ? "" : track.language, track.name].filter(Boolean).join(", ")));
    list(this.rungs, (this.stream.renditions || []).map((rung) =>
      `${rung.name}: ${rung.state}, ${rung.width}×${rung.height}, ${megabits(rung.bitrate)}, ${rung.lagMs} ms behind, ${rung.gaps} gaps`));
    this.rungPart.hidden = !this.stream.renditions?.length;
    list(this.sinks, this.stream.sinks.map((sink) => `${sink.name}: ${sink.state}, ${sink.msPerFrame} ms for each frame`));
    try {
      const past = await ask(this.path + "/history");
      const whole = (value) => String(value);
      this.plots.replaceChildren(
        plot("Bitrate", past.ages, past.bitrate, megabits), plot("Frame rate", past.ages, past.frameRate, (rate) => rate + "/s"),
        plot("Viewers", past.ages, past.viewers, whole), plot("Parts late", past.ages, past.lateMs, (ms) => ms + " ms"));
      await this.showRelays();
    } catch {
      // it has ended meanwhile
    }
  }

  async showRelays() {
    let found;
    try {
      found = (await ask(this.path + "/relays")).relays;
    } catch {
      this.relayPart.hidden = true; // this server has none
      return;
    }
    const said = JSON.stringify(found);
    if (said === this.saidRelays) return;
    this.saidRelays = said;
    this.relays.replaceChildren(...found.map((relay) => make("li", {},
      `${relay.direction === "pull" ? "from" : "to"} ${relay.url} ${relay.key}: ${relay.state}${relay.reason ? " (" + relay.reason + ")" : ""}, ${megabits(relay.bitrate)}, ${relay.reconnects} reconnects `,
      relay.isConfigured ? "" : button("Remove", "Remove the relay to " + relay.url, () => this.removeRelay(relay)))));
  }

  async addRelay(event) {
    event.preventDefault();
    const body = { url: this.relayUrl.value, ...(this.relayKey.value ? { key: this.relayKey.value } : {}) };
    if (await act("The relay is added", this.path + "/relays", "POST", body)) {
      event.target.reset();
      await this.showRelays();
    }
  }

  async removeRelay(relay) {
    if (await act("The relay is removed", this.path + "/relays/" + encodeURIComponent(relay.id), "DELETE")) await this.showRelays();
  }

  async toggleRecord() {
    const action = this.isRecorded ? "stop" : "start";
    await act(this.isRecorded ? "The recording is finished" : "It is recorded", this.path + "/record", "POST", { action });
    loadStreams();
    loadRecordings();
  }

  async stop() {
    if (!(await confirmed(`Stop ${this.name}, and close the connection of its publisher?`))) return;
    await act("The stream is stopped", this.path + "/stop", "POST", {});
    loadStreams();
  }
}

function list(where, lines) {
  const said = JSON.stringify(lines);
  if (where.dataset.said === said) return;
  where.dataset.said = said;
  where.replaceChildren(...lines.map((line) => make("li", {}, line)));
}

async function loadStreams() {
  const { streams } = await ask("api/v1/streams");
  const shown = streams.filter((stream) => stream.state !== "ended");
  const names = new Set(shown.map((stream) => stream.app + "/" + stream.streamKey));
  for (const [name, card] of cards) {
    if (names.has(name)) continue;
    card.root.remove();
    cards.delete(name);
  }
  for (const stream of shown) {
    const name = stream.app + "/" + stream.streamKey;
    if (!cards.has(name)) {
      cards.set(name, new Card(stream));
      element("stream-list").append(cards.get(name).root);
    }
    cards.get(name).show(stream);
  }
  element("no-streams").hidden = shown.length > 0;
}

// ── stream keys ─────────────────────────────────────────────────────────────────────────────────────────────────────

async function makeKey(event) {
  event.preventDefault();
  const body = { streamKey: element("key-name").value, app: element("key-app").value, expiresIn: element("key-expires").value };
  const made = await act("The key is made", "api/v1/publish", "POST", body);
  element("key-made").hidden = !made;
  if (!made) return;
  element("key-server").value = made.server;
  element("key-key").value = made.key;
  element("key-watch").value = made.watchUrl;
  element("key-until").textContent = "Valid until " + new Date(made.expiresAt).toLocaleString();
  const drawn = await act("The key is made", "console/code", "POST", { text: made.publishUrl });
  const code = drawn && new DOMParser().parseFromString(drawn, "image/svg+xml").documentElement;
  element("key-code").replaceChildren(...(code ? [document.importNode(code, true)] : []));
}

// ── recordings ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function loadRecordings() {
  const { recordings, total } = await ask("api/v1/recordings?page=0&itemsPerPage=" + PER_PAGE);
  const said = JSON.stringify(recordings);
  if (element("recording-list").dataset.said === said) return;
  element("recording-list").dataset.said = said;
  const focused = document.activeElement?.dataset.key;
  element("recording-list").replaceChildren(...recordings.map(row));
  if (focused) document.querySelector(`[data-key="${focused}"]`)?.focus();
  const more = total - recordings.length;
  element("recordings-more").textContent = more > 0 ? `And ${more} older ones, on the page of recordings.` : total ? "" : "Nothing has been recorded yet.";
}

/* What has the focus keeps it when the list is drawn anew. */
function keyed(made, key) {
  made.dataset.key = key;
  return made;
}

function row(recording) {
  const { app, streamKey, start, isGrowing = recording.state === "recording" } = recording;
  const name = `${app}/${streamKey} of ${timeOfDay(Date.parse(recording.startedAt))}`;
  const path = ["api/v1/recordings", app, streamKey, start].map((each, index) => (index ? encodeURIComponent(each) : each)).join("/");
  const protect = async () => {
    await act(recording.protected ? "It may be deleted again" : "It is protected", path + "/protect", "POST", { protected: !recording.protected });
    loadRecordings();
  };
  const remove = async () => {
    if (!(await confirmed(`Delete the recording ${name}?`))) return;
    await act("The recording is deleted", path, "DELETE");
    loadRecordings();
  };
  const rename = async () => {
    const title = window.prompt(`Title of the recording ${name}`, recording.title);
    if (title === null) return;
    await act("It has another title", path + "/title", "POST", { title });
    loadRecordings();
  };
  const words = recording.protected ? "Unprotect" : "Protect";
  const actions = [
    make("a", { href: new URL(`recordings#${app}/${streamKey}/${start}`, watching), "aria-label": "Watch " + name }, "Watch"), " ",
    button("Title", "Title of " + name, rename), " ",
    keyed(button(words, `${words} ${name}`, protect), path), " ",
    ...(isGrowing || recording.protected ? [] : [button("Delete", "Delete " + name, remove, "plain danger")]),
  ];
  const cells = [(recording.title ? recording.title + " · " : "") + `${app}/${streamKey}`, timeOfDay(Date.parse(recording.startedAt)), clock(recording.duration * 1000), bytes(recording.size),
    recording.state + (recording.protected ? ", protected" : "")];
  return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)), make("td", {}, ...actions));
}

// ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function followEvents(types) {
  const source = new EventSource(new URL("api/v1/events?lastEventId=1", root));
  const seen = (message) => {
    const event = JSON.parse(message.data);
    const where = event.stream ? `${event.app}/${event.stream}` : "";
    const data = Object.keys(event.data || {}).length ? JSON.stringify(event.data) : "";
    const line = [timeOfDay(Date.parse(event.time)), event.type, where, event.peer || "", data].filter(Boolean).join(" · ");
    element("event-list").prepend(make("li", {}, line));
    while (element("event-list").children.length > MOST_EVENTS) element("event-list").lastElementChild.remove();
    if (EVENTS_THAT_CHANGE_RECORDINGS.test(event.type)) loadRecordings().catch(() => {});
  };
  for (const type of types) source.addEventListener(type, seen);
}

async function loadServer() {
  const { checks } = await ask("ready");
  list(element("checks"), checks.map((check) => `${check.name}: ${check.ok ? "in order" : check.reason}`));
}

// ── the beginning ───────────────────────────────────────────────────────────────────────────────────────────────────

/* Do it now, and again and again while the page is looked at. */
function often(load, ms) {
  const run = () => (document.hidden ? null : load().catch((error) => say("The server does not answer: " + error.message)));
  run();
  setInterval(run, ms);
}

element("key-form").addEventListener("submit", makeKey);
for (const each of document.querySelectorAll("[data-copy]")) {
  each.addEventListener("click", () => { element("said").hidden = false; copy(element(each.dataset.copy), element("said")); });
}
often(loadStreams, STREAMS_MS);
often(loadRecordings, RECORDINGS_MS);
often(loadServer, RECORDINGS_MS);
ask("api/v1/config").then((found) => { element("configuration").textContent = found.text; }).catch(() => {
  element("configuration").textContent = "This server does not show its configuration.";
});
followEvents(element("event-list").dataset.types.split(" "));
