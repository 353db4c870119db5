"use strict";
/*
 * Plays one recording at a time above the list: hls.js on its playlist where Media Source Extensions exist, the
 * browser's own HLS otherwise, and the whole file where there is neither. Without this script the links still lead to
 * the files.
 */
import { Controls } from "./controls.js";
import { PositionBar } from "./position.js";
import { showPictures } from "./pictures.js";
import { Previews } from "./previews.js";
import { lackingCodecs, reasonOf } from "./words.js";

const panel = document.getElementById("player");
const video = document.getElementById("video");
const state = document.getElementById("state");
const NAME = /^[\w~-][\w.~-]*\/[\w~-][\w.~-]*\/\d{8}T\d{6}Z$/;
let hls = null;
let controls = null; // as soon as there is something to play
const bar = new PositionBar(video);

/* What a test, or a curious person at the console, can read. */
window.rapidrtmp = {
  get engine() { return hls ? "hls.js" : video.src ? "native" : "none"; },
  get hls() { return hls; },
};

for (const time of document.querySelectorAll("time")) {
  const moment = new Date(time.dateTime);
  time.title = time.textContent;
  time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

showPictures(document.querySelector(".recordings"));

function links() {
  return [...document.querySelectorAll("a.play")];
}

function say(kind, words) {
  state.dataset.kind = kind;
  state.textContent = words;
}

function stop() {
  if (hls) hls.destroy();
  hls = null;
  video.removeAttribute("src");
  for (const row of document.querySelectorAll("[aria-current]")) row.removeAttribute("aria-current");
}

function start() {
  const started = video.play();
  if (started) started.catch(() => say("waiting", "Press play to start"));
}

function canDecode(codec) {
  return (window.ManagedMediaSource || window.MediaSource).isTypeSupported(`video/mp4; codecs="${codec}"`);
}

/* Play a recording by its name, whether it is in the list on this page or not. */
function play(name) {
  stop();
  const folder = new URL("recordings/" + name + "/", location.href).href;
  const link = links().find((each) => each.dataset.name === name);
  const playlist = folder + (link && "renditions" in link.dataset ? "master.m3u8" : "index.m3u8");
  if (link) link.setAttribute("aria-current", "true");
  panel.hidden = false;
  controls ??= new Controls(video, { start });
  bar.show(new Previews(folder + "iframes.m3u8", (segment) => segment.start));
  video.setAttribute("aria-label", "Recording " + name);
  say("live", name);
  if (window.Hls && Hls.isSupported()) {
    hls = new Hls({ startPosition: 0, backBufferLength: 60 });
    let codecs = "";
    hls.on(Hls.Events.MANIFEST_PARSED, start);
    hls.on(Hls.Events.BUFFER_CODECS, (_, tracks) => {
      codecs = ["video", "audio", "audiovideo"].flatMap((kind) => tracks[kind]?.codec || []).join(",");
    });
    hls.on(Hls.Events.ERROR, (_, error) => {
      if (!error.fatal) return;
      const lacking = error.type === Hls.ErrorTypes.MEDIA_ERROR ? lackingCodecs([codecs], canDecode) : "";
      if (lacking) {
        stop();
        say("failed", "This browser cannot decode " + lacking);
      } else if (error.type === Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
      else say("failed", "This recording cannot be played now: " + (reasonOf(error) || "the server does not answer"));
    });
    hls.loadSource(playlist);
    hls.attachMedia(video);
  } else {
    video.src = video.canPlayType("application/vnd.apple.mpegurl") ? playlist : folder + "recording.mp4";
    start();
  }
  panel.scrollIntoView({ block: "start" });
}

video.addEventListener("error", () => {
  if (!hls && video.src) say("failed", "This recording cannot be played now");
});

/* A recording has an address of its own, to be sent to others: /recordings#APP/KEY/START */
function playNamed() {
  const name = location.hash.slice(1);
  if (NAME.test(name)) play(name);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.play");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.replaceState(null, "", "#" + link.dataset.name);
  play(link.dataset.name);
});
window.addEventListener("hashchange", playNamed);
playNamed();
