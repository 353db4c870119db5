"use strict";
/*
 * The menus of a player: quality, audio and captions, each only where there is something to choose. What was chosen
 * holds when playing has to begin again, and after the page is loaded anew.
 */
import { recall, remember } from "./memory.js";
import { megabits } from "./words.js";

const AUTO = "auto";
const OFF = "";
const CAPTIONS = ["captions", "subtitles"];

/* A menu with its label, which is hidden while there is nothing to choose. */
class Menu {
  constructor(id, label, chosen) {
    this.select = document.getElementById(id);
    this.label = document.getElementById(label);
    this.select.addEventListener("change", () => chosen(this.select.value, this.select.selectedOptions[0].text));
  }

  /* Offer these, as pairs of a value and its words; what is open and has not changed is left alone. */
  offer(options, value, least) {
    const now = JSON.stringify(options);
    if (now !== this.offered) {
      this.offered = now;
      this.select.replaceChildren(...options.map(([each, words]) => new Option(words, each)));
    }
    this.select.value = String(value);
    this.label.hidden = options.length < least;
  }
}

export class Choices {
  constructor(video) {
    this.video = video;
    this.hls = null;
    this.wantedHeight = recall("quality") ?? AUTO;
    this.wantedAudio = recall("audio") ?? "";
    this.wantedCaptions = recall("captions") ?? OFF;
    this.quality = new Menu("quality", "quality-choice", (value) => this.chooseQuality(value));
    this.audio = new Menu("audio", "choice", (value, words) => this.chooseAudio(value, words));
    this.captions = new Menu("captions", "captions-choice", (value) => this.chooseCaptions(value));
    for (const event of ["addtrack", "removetrack", "change"]) {
      video.textTracks.addEventListener(event, () => this.showCaptions());
    }
    video.audioTracks?.addEventListener?.("addtrack", () => this.showNativeAudio());
  }

  /* Offer what an hls.js has found, and have it follow what is chosen. */
  follow(hls) {
    this.hls = hls;
    hls.on(Hls.Events.MANIFEST_PARSED, () => this.applyQuality());
    hls.on(Hls.Events.LEVELS_UPDATED, () => this.showQuality());
    hls.on(Hls.Events.LEVEL_SWITCHED, () => this.showQuality());
    hls.on(Hls.Events.AUDIO_TRACKS_UPDATED, () => this.applyAudio());
    hls.on(Hls.Events.AUDIO_TRACK_SWITCHED, () => this.showAudio());
    this.showQuality();
  }

  /* Nothing is played by hls.js now. */
  leave() {
    this.hls = null;
  }

  // ── quality ───────────────────────────────────────────────────────────────────────────────────────────────────────

  applyQuality() {
    const index = this.levels.findIndex((level) => level.height === this.wantedHeight);
    if (index >= 0) this.hls.startLevel = this.hls.loadLevel = index;
    this.showQuality();
  }

  chooseQuality(value) {
    const level = this.levels[value];
    this.wantedHeight = level ? level.height : AUTO;
    remember("quality", this.wantedHeight);
    if (this.hls) this.hls.nextLevel = level ? Number(value) : -1;
    this.showQuality();
  }

  get levels() {
    return this.hls ? this.hls.levels : [];
  }

  showQuality() {
    const levels = this.levels;
    const isAuto = !this.hls || this.hls.autoLevelEnabled;
    const playing = levels[this.hls ? this.hls.currentLevel : -1];
    const rungs = levels.map((level, index) => [index, `${nameOf(level)} · ${megabits(level.bitrate)}`]).reverse();
    const auto = isAuto && playing ? `Auto (${nameOf(playing)})` : "Auto";
    this.quality.offer([[-1, auto], ...rungs], isAuto ? -1 : this.hls.loadLevel, 3);
  }

  // ── audio ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  applyAudio() {
    const wanted = this.hls.audioTracks.find((track) => track.name === this.wantedAudio);
    if (wanted) this.hls.audioTrack = wanted.id;
    this.showAudio();
  }

  chooseAudio(value, words) {
    this.wantedAudio = words;
    remember("audio", words);
    if (this.hls) this.hls.audioTrack = Number(value);
    else for (const track of this.nativeAudio) track.enabled = track.id === value;
  }

  showAudio() {
    if (!this.hls) return;
    this.audio.offer(this.hls.audioTracks.map((track) => [track.id, track.name]), this.hls.audioTrack, 2);
  }

  get nativeAudio() {
    return [...(this.video.audioTracks || [])];
  }

  /* In a browser that plays HLS by itself. */
  showNativeAudio() {
    if (this.hls) return;
    const tracks = this.nativeAudio;
    const wanted = tracks.find((track) => track.label === this.wantedAudio);
    if (wanted) for (const track of tracks) track.enabled = track === wanted;
    this.audio.offer(tracks.map((track) => [track.id, track.label]), tracks.find((track) => track.enabled)?.id, 2);
  }

  // ── captions ──────────────────────────────────────────────────────────────────────────────────────────────────────

  get captionTracks() {
    return [...this.video.textTracks].filter((track) => CAPTIONS.includes(track.kind));
  }

  chooseCaptions(value) {
    this.wantedCaptions = value;
    remember("captions", value);
    this.showCaptions();
  }

  showCaptions() {
    const tracks = this.captionTracks;
    for (const track of tracks) {
      const mode = this.wantedCaptions !== OFF && captionsOf(track) === this.wantedCaptions ? "showing" : "disabled";
      if (track.mode !== mode && !(mode === "disabled" && track.mode === "hidden")) track.mode = mode;
    }
    const names = [...new Set(tracks.map(captionsOf))];
    const shown = names.includes(this.wantedCaptions) ? this.wantedCaptions : OFF;
    this.captions.offer([[OFF, "Off"], ...names.map((name) => [name, name])], shown, 2);
  }
}

/* A rung as people call it. */
function nameOf(level) {
  if (!level.height) return "Sound";
  return level.height + "p" + (level.frameRate > 31 ? Math.round(level.frameRate) : "");
}

function captionsOf(track) {
  return track.label || track.language || "Captions";
}
