"use strict";
/*
 * The controls of a player that do not depend on what is played: play and pause, sound, full screen, picture in
 * picture, and their keys. How loud it was is remembered.
 */
import { recall, remember } from "./memory.js";

const IDLE_MS = 3000;
const VOLUME_STEP = 0.1;

const element = (id) => document.getElementById(id);

/* Whether keys belong to what has the focus: a menu, or a field that is written in. */
export function isTyping(event) {
  return event.target instanceof Element && Boolean(event.target.closest("select, textarea, input:not([type=range])"));
}

/* Whether a key does something else on what has the focus. */
function isPressing(event) {
  return event.target instanceof Element && Boolean(event.target.closest("button, a, summary"));
}

export class Controls {
  /* start() is called to play, where there is something to be done before; muted is how to begin, if that is known. */
  constructor(video, { start, muted }) {
    this.video = video;
    this.start = start;
    this.stage = element("stage");
    this.isQuietened = false; // by the browser, until its user says otherwise
    this.idleTimer = 0;
    const known = recall("sound") || {};
    video.volume = Number.isFinite(known.volume) ? Math.min(Math.max(known.volume, 0), 1) : 1;
    video.muted = muted ?? known.muted ?? false;
    this.keepsSound = muted === undefined;
    this.listen();
    this.showSound();
  }

  listen() {
    const { video, stage } = this;
    for (const event of ["play", "pause", "emptied"]) video.addEventListener(event, () => this.showPlaying());
    video.addEventListener("volumechange", () => this.soundChanged());
    video.addEventListener("click", (event) => { if (event.pointerType !== "touch") this.toggle(); });
    video.addEventListener("dblclick", () => this.toggleFull());
    element("toggle").addEventListener("click", () => this.toggle());
    element("mute").addEventListener("click", () => this.mute(!video.muted));
    element("unmute").addEventListener("click", () => { this.mute(false); this.start(); });
    element("volume").addEventListener("input", (event) => this.turn(Number(event.target.value)));
    this.listenFull();
    this.listenInset();
    for (const event of ["pointermove", "pointerdown", "keydown", "focusin"]) {
      stage.addEventListener(event, () => this.wake(), { passive: true });
    }
    document.addEventListener("keydown", (event) => this.key(event));
    this.wake();
  }

  // ── playing ───────────────────────────────────────────────────────────────────────────────────────────────────────

  toggle() {
    if (this.video.paused) this.start();
    else this.video.pause();
  }

  showPlaying() {
    const isPlaying = !this.video.paused;
    element("toggle").dataset.on = String(isPlaying);
    element("toggle").setAttribute("aria-label", isPlaying ? "Pause" : "Play");
    this.wake();
  }

  // ── sound ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /* Mute because the browser plays nothing else yet: that is no wish of its user. */
  quieten() {
    this.isQuietened = true;
    this.video.muted = true;
  }

  mute(isMuted) {
    this.isQuietened = false;
    this.video.muted = isMuted;
    if (!isMuted && !this.video.volume) this.video.volume = VOLUME_STEP;
    element("unmute").hidden = true;
  }

  turn(volume) {
    this.isQuietened = false;
    this.video.volume = Math.min(Math.max(volume, 0), 1);
    this.video.muted = !this.video.volume;
  }

  soundChanged() {
    const { muted, volume } = this.video;
    if (!muted) {
      this.isQuietened = false;
      element("unmute").hidden = true;
    }
    if (!this.isQuietened && this.keepsSound) remember("sound", { muted, volume });
    this.showSound();
  }

  showSound() {
    const { muted, volume } = this.video;
    element("mute").dataset.on = String(muted);
    element("mute").setAttribute("aria-label", muted ? "Unmute" : "Mute");
    element("volume").value = muted ? 0 : volume;
  }

  /* It plays: say so where it does without the sound that its user wants. */
  offerSound() {
    element("unmute").hidden = !(this.video.muted && this.isQuietened);
  }

  // ── full screen, and the picture alone ────────────────────────────────────────────────────────────────────────────

  listenFull() {
    const { stage, video } = this;
    const isOffered = document.fullscreenEnabled || document.webkitFullscreenEnabled || video.webkitEnterFullscreen;
    element("full").hidden = !isOffered || !(stage.requestFullscreen || stage.webkitRequestFullscreen || video.webkitEnterFullscreen);
    element("full").addEventListener("click", () => this.toggleFull());
    for (const event of ["fullscreenchange", "webkitfullscreenchange"]) {
      document.addEventListener(event, () => {
        const words = this.isFull ? "Leave full screen" : "Full screen";
        element("full").setAttribute("aria-label", words);
        this.wake();
      });
    }
  }

  get isFull() {
    return Boolean(document.fullscreenElement || document.webkitFullscreenElement);
  }

  toggleFull() {
    const { stage, video } = this;
    const refused = () => {}; // the browser says no: nothing changes
    if (this.isFull) (document.exitFullscreen || document.webkitExitFullscreen).call(document)?.catch?.(refused);
    else if (stage.requestFullscreen) stage.requestFullscreen().catch(refused);
    else if (stage.webkitRequestFullscreen) stage.webkitRequestFullscreen();
    else if (video.webkitEnterFullscreen) video.webkitEnterFullscreen();
  }

  listenInset() {
    const { video } = this;
    element("inset").hidden = !document.pictureInPictureEnabled;
    element("inset").addEventListener("click", () => {
      const done = document.pictureInPictureElement ? document.exitPictureInPicture() : video.requestPictureInPicture();
      done.catch(() => {}); // there is no picture yet
    });
  }

  /* Over the picture the controls go away while nothing moves and it plays. */
  wake() {
    clearTimeout(this.idleTimer);
    delete this.stage.dataset.idle;
    if (!this.video.paused) this.idleTimer = setTimeout(() => { this.stage.dataset.idle = ""; }, IDLE_MS);
  }

  // ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  key(event) {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || isTyping(event)) return;
    const isOnRange = event.target instanceof Element && event.target.matches("input[type=range]");
    if (event.key === " " && !isPressing(event)) this.toggle();
    else if (event.key === "m") this.mute(!this.video.muted);
    else if (event.key === "f") this.toggleFull();
    else if (event.key === "ArrowUp" && !isOnRange) this.turn(this.video.volume + VOLUME_STEP);
    else if (event.key === "ArrowDown" && !isOnRange) this.turn(this.video.volume - VOLUME_STEP);
    else return;
    this.wake();
    event.preventDefault();
  }
}
