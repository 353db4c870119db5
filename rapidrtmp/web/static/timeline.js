"use strict";
/*
 * The timeline of a live stream that has a rewind window: where in it the picture is, by the wall clock, and the
 * controls that move it. It knows nothing of players: moments go in and out as milliseconds since 1970.
 */
import { isTyping } from "./controls.js";
import { Bubble, Previews } from "./previews.js";
import { clock, timeOfDay } from "./words.js";

const STEP_MS = 10000;
const BACK_MS = 30000;
const CLIP_MS = 30000;

export class Timeline {
  /*
   * seek(ms) is called to go to a moment, live() to go to the live edge; clips is the URL that clips are made under,
   * pictures that of an I-frame playlist.
   */
  constructor({ seek, live, clips, pictures }) {
    this.panel = document.getElementById("timeline");
    this.bar = document.getElementById("seek");
    this.bubble = new Bubble(this.bar, new Previews(pictures, (segment) => segment.programDateTime));
    this.position = document.getElementById("position");
    this.badge = document.getElementById("golive");
    this.clip = document.getElementById("clip");
    this.notice = document.getElementById("notice");
    this.others = ["back", "position", "clip"].map((id) => document.getElementById(id));
    this.seek = seek;
    this.live = live;
    this.clips = this.clip.href = clips;
    this.first = this.edge = this.playing = 0;
    this.isLive = this.isDragging = false;
    this.listen();
  }

  get isOffered() {
    return !this.panel.hidden;
  }

  hide() {
    this.panel.hidden = true;
    for (const each of this.others) each.hidden = true;
  }

  /* Say whether what is seen is live; what has ended has no live edge to go to. */
  showBadge(isLive, hasEnded) {
    const at = hasEnded ? "ended" : isLive ? "live" : "behind";
    if (this.badge.dataset.at === at) return;
    this.panel.dataset.at = this.badge.dataset.at = at;
    this.badge.setAttribute("aria-pressed", String(isLive));
    this.badge.disabled = hasEnded;
    this.badge.textContent = hasEnded ? "Ended" : "Live";
  }

  /*
   * What can be seen, from first to edge, and what is: playing, which is live or is not. A stream that has ended has no
   * live edge to go to.
   */
  show({ first, edge, playing, isLive, hasEnded }) {
    Object.assign(this, { first, edge, isLive, playing: Math.min(Math.max(playing, first), edge) });
    this.panel.hidden = false;
    for (const each of this.others) each.hidden = false;
    this.showBadge(isLive, hasEnded);
    this.bar.min = Math.floor(first / 1000);
    this.bar.max = Math.ceil(edge / 1000);
    if (!this.isDragging) this.bar.value = isLive ? this.bar.max : Math.round(this.playing / 1000);
    this.describe(hasEnded ? " before the end" : " behind");
  }

  describe(behind) {
    const words = timeOfDay(this.playing) + (this.isLive ? "" : " · " + clock(this.edge - this.playing) + behind);
    if (this.position.textContent !== words) {
      this.position.textContent = words;
      this.bar.setAttribute("aria-valuetext", words);
    }
    this.fill();
  }

  fill() {
    const share = (this.bar.value - this.bar.min) / Math.max(this.bar.max - this.bar.min, 1);
    this.bar.style.setProperty("--filled", (100 * share).toFixed(2) + "%");
  }

  listen() {
    const bar = this.bar;
    bar.addEventListener("input", () => {
      this.isDragging = true;
      this.point((bar.value - bar.min) / Math.max(bar.max - bar.min, 1));
      this.fill();
    });
    bar.addEventListener("change", () => {
      this.isDragging = false;
      this.bubble.hide();
      if (bar.value === bar.max) this.live();
      else this.seek(bar.value * 1000);
    });
    this.bubble.follow((share) => this.point(share));
    document.getElementById("back").addEventListener("click", () => this.step(-BACK_MS));
    this.badge.addEventListener("click", () => this.live());
    this.clip.addEventListener("click", (event) => this.download(event));
    document.addEventListener("keydown", (event) => this.key(event), { capture: true });
  }

  /* Say which moment lies at a place of the bar, from 0 to 1. */
  point(share) {
    const moment = this.first + share * (this.edge - this.first);
    this.bubble.show(share, timeOfDay(moment), moment);
  }

  step(ms) {
    this.seek(this.playing + ms, ms > 0);
  }

  key(event) {
    if (!this.isOffered || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (isTyping(event) || event.target.id === "volume") return;
    if (event.key === "ArrowLeft") this.step(-STEP_MS);
    else if (event.key === "ArrowRight") this.step(STEP_MS);
    else if (event.key === "Home") this.seek(this.first);
    else if (event.key === "End") this.live();
    else return;
    event.preventDefault(); // or else the video's own controls would step too
    event.stopPropagation();
  }

  /* The clip that the link leads to when it is followed: up to what is seen now. */
  clipUrl() {
    if (this.isLive) return this.clips + "?from=-" + CLIP_MS / 1000 + "s";
    const date = (ms) => encodeURIComponent(new Date(ms).toISOString());
    return this.clips + "?from=" + date(this.playing - CLIP_MS) + "&to=" + date(this.playing);
  }

  /* Have a clip saved if there is one, and otherwise say why there is none. */
  async download(event) {
    if (!event.isTrusted) return;
    event.preventDefault();
    const link = this.clip;
    this.notice.textContent = "";
    try {
      link.href = await this.available(this.clipUrl());
      link.click();
    } catch (error) {
      this.notice.textContent = "No clip: " + error.message;
    }
  }

  /* A URL that is answered with one file; if something changed meanwhile, only with what came after that. */
  async available(url) {
    if ((await fetch(url, { method: "HEAD" })).ok) return url;
    const refusal = await (await fetch(url)).json();
    if (!refusal.spans) throw new Error(refusal.error);
    const { from, to } = refusal.spans[refusal.spans.length - 1];
    return this.clips + "?" + new URLSearchParams({ from, to });
  }
}
