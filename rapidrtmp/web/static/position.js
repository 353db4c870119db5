"use strict";
/*
 * The seek bar of a film that has a beginning and an end: where in it the picture is, pictures of where it is pointed at,
 * and the keys that move it.
 */
import { isTyping } from "./controls.js";
import { Bubble } from "./previews.js";
import { clock } from "./words.js";

const STEP_S = 10;

export class PositionBar {
  constructor(video) {
    this.video = video;
    this.bar = document.getElementById("seek");
    this.position = document.getElementById("position");
    this.bubble = new Bubble(this.bar, null);
    this.isDragging = false;
    this.bubble.follow((share) => this.point(share));
    this.bar.addEventListener("input", () => {
      this.isDragging = true;
      this.point(this.bar.value / (this.length || 1));
      this.fill();
    });
    this.bar.addEventListener("change", () => {
      this.isDragging = false;
      this.bubble.hide();
      this.goTo(Number(this.bar.value));
    });
    for (const event of ["timeupdate", "durationchange", "seeking", "emptied"]) {
      video.addEventListener(event, () => this.follow());
    }
    document.addEventListener("keydown", (event) => this.key(event), { capture: true });
  }

  get length() {
    return Number.isFinite(this.video.duration) ? this.video.duration : 0;
  }

  /* Another film is played, with these pictures. */
  show(previews) {
    this.bubble.clear(previews);
    this.follow();
  }

  follow() {
    this.bar.max = this.length || 1;
    if (!this.isDragging) this.bar.value = this.video.currentTime;
    const words = clock(this.video.currentTime * 1000) + " / " + clock(this.length * 1000);
    if (this.position.textContent !== words) {
      this.position.textContent = words;
      this.bar.setAttribute("aria-valuetext", words);
    }
    this.fill();
  }

  fill() {
    this.bar.style.setProperty("--filled", ((100 * this.bar.value) / this.bar.max).toFixed(2) + "%");
  }

  /* Say which moment lies at a place of the bar, from 0 to 1, and show it. */
  point(share) {
    const moment = share * this.length;
    if (this.length) this.bubble.show(share, clock(moment * 1000), moment);
  }

  goTo(position) {
    this.video.currentTime = Math.min(Math.max(position, 0), this.length);
  }

  key(event) {
    if (!this.length || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (isTyping(event) || event.target.id === "volume") return;
    if (event.key === "ArrowLeft") this.goTo(this.video.currentTime - STEP_S);
    else if (event.key === "ArrowRight") this.goTo(this.video.currentTime + STEP_S);
    else if (event.key === "Home") this.goTo(0);
    else if (event.key === "End") this.goTo(this.length - 0.1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
