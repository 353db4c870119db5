"use strict";
/*
 * Pictures over a seek bar, from an I-frame playlist: each of its segments is a film of one frame, which the browser
 * decodes. Nothing is loaded before somewhere is pointed at.
 */
import { readSegments } from "./window.js";

const AGAIN_MS = 4000; // so often the playlist is read again, for a stream that is live
const KEPT = 120; // pictures
const WIDTH = 192;

export class Previews {
  /* url is that of the I-frame playlist; key(segment) is by what it is looked for, and grows from one to the next. */
  constructor(url, key) {
    this.url = url;
    this.key = key;
    this.segments = [];
    this.readAt = -Infinity;
    this.hasEnded = false;
    this.inits = new Map(); // by URL, as promises of bytes
    this.kept = new Map(); // canvases by URL, the newest last
    this.film = document.createElement("video");
    this.film.muted = this.film.playsInline = true;
    this.film.preload = "auto";
  }

  /* The picture of the moment, as a canvas; null if there is none, or another one was asked for meanwhile. */
  async at(moment) {
    this.wanted = moment;
    await this.read(moment);
    const found = this.segments.findLast((each) => this.key(each) <= moment && !each.isGap) || this.segments.find((each) => !each.isGap);
    if (!found || this.wanted !== moment) return null;
    const url = new URL(found.uri, this.url).href;
    return this.kept.get(url) || this.queued(moment, url, new URL(found.init, this.url).href);
  }

  async read(moment) {
    const last = this.segments[this.segments.length - 1];
    const isKnown = last && (this.hasEnded || moment < this.key(last));
    if (isKnown || performance.now() - this.readAt < AGAIN_MS) return this.reading;
    this.readAt = performance.now();
    this.reading = fetch(this.url).then(async (answer) => {
      if (!answer.ok) return;
      const text = await answer.text();
      this.segments = readSegments(text);
      this.hasEnded = text.includes("#EXT-X-ENDLIST");
    }).catch(() => {}); // the server is away: no pictures then
    return this.reading;
  }

  /* One after another: who points moves on, and of those that wait only the last is wanted. */
  async queued(moment, url, init) {
    await this.busy;
    if (this.wanted !== moment) return null;
    const made = this.make(url, init).catch(() => null);
    this.busy = made;
    const canvas = await made;
    if (canvas) this.keep(url, canvas);
    return this.wanted === moment ? canvas : null;
  }

  async make(url, init) {
    const [head, picture] = await Promise.all([this.initOf(init), bytes(url)]);
    const source = URL.createObjectURL(new Blob([head, picture], { type: "video/mp4" }));
    try {
      await new Promise((resolve, reject) => {
        this.film.onloadeddata = resolve;
        this.film.onerror = reject;
        this.film.src = source;
      });
      const canvas = document.createElement("canvas");
      canvas.width = WIDTH;
      canvas.height = Math.round((WIDTH * this.film.videoHeight) / this.film.videoWidth);
      canvas.getContext("2d").drawImage(this.film, 0, 0, canvas.width, canvas.height);
      return canvas;
    } finally {
      URL.revokeObjectURL(source);
    }
  }

  initOf(url) {
    if (!this.inits.has(url)) {
      const loading = bytes(url);
      loading.catch(() => this.inits.delete(url));
      this.inits.set(url, loading);
    }
    return this.inits.get(url);
  }

  keep(url, canvas) {
    this.kept.set(url, canvas);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
  }
}

async function bytes(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.arrayBuffer();
}

/* What stands over a seek bar where it is pointed at: a picture, if there is one, and which moment that is. */
export class Bubble {
  constructor(bar, previews) {
    this.bar = bar;
    this.previews = previews;
    this.box = document.getElementById("bubble");
    this.picture = document.getElementById("preview");
    this.words = document.getElementById("moment");
    for (const kind of ["pointerleave", "pointercancel", "blur"]) bar.addEventListener(kind, () => this.hide());
  }

  /* Call at(share), which is from 0 to 1, whenever the pointer is over another place. */
  follow(at) {
    this.bar.addEventListener("pointermove", (event) => {
      const box = this.bar.getBoundingClientRect();
      at(Math.min(Math.max((event.clientX - box.left - 8) / (box.width - 16), 0), 1)); // the thumb is 16 px wide
    });
  }

  /* Show the words and the picture of a moment over a place of the bar. */
  show(share, words, moment) {
    this.box.hidden = false;
    this.words.textContent = words;
    this.share = share;
    this.place();
    this.previews?.at(moment).then((canvas) => {
      if (!canvas) return;
      this.picture.width = canvas.width;
      this.picture.height = canvas.height;
      this.picture.getContext("2d").drawImage(canvas, 0, 0);
      this.picture.hidden = false;
      this.place();
    });
  }

  /* Over the place, but within the width of the bar. */
  place() {
    const width = this.bar.clientWidth;
    const half = this.box.offsetWidth / 2;
    const left = 8 + this.share * (width - 16);
    this.box.style.left = Math.max(Math.min(left, width - half), half).toFixed(1) + "px";
  }

  hide() {
    this.box.hidden = true;
  }

  /* Forget the picture: another film is shown. */
  clear(previews) {
    this.previews = previews;
    this.picture.hidden = true;
    this.hide();
  }
}
