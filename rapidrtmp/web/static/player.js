"use strict";
/*
 * Plays one live stream: hls.js in low-latency mode where Media Source Extensions exist, the browser's own HLS
 * otherwise. It never gives up: a stream that is not there yet, or went away, is asked for again and again, slowly.
 *
 * A stream says in its multivariant playlist whether it can be rewound. Live is played from that one, with low latency,
 * and any earlier moment from the long playlist of its rewind window; to change over is to start with the other one.
 */
import { Choices } from "./choices.js";
import { Controls } from "./controls.js";
import { offerSharing } from "./share.js";
import { Timeline } from "./timeline.js";
import { RewindWindow, dateOf, endOf, positionOf } from "./window.js";
import { clock, lackingCodecs, megabits, reasonOf } from "./words.js";

const main = document.querySelector("main");
const video = document.getElementById("video");
const still = document.getElementById("still");
const begin = document.getElementById("begin");
const isEmbedded = document.body.classList.contains("embed");
const asked = new URLSearchParams(isEmbedded ? location.search : "");
const page = pageAddress();
const address = (name) => new URL(name, page).href;
const multivariant = address(main.dataset.multivariant);
const media = address(main.dataset.media);
const notice = address(main.dataset.notice);
const viewers = address(main.dataset.viewers);
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 8000;
const STUCK_MS = 12000;
const LONG_PAUSE_MS = 8000;
const ABSENT_MS = 30000; // so long a stream may be awaited without a word
const COUNT_MS = 10000; // how often to ask how many watch
const LOOK_MS = { waiting: 3000, playing: 15000 }; // how often to ask why something is missing
const SLACK_S = 6; // so much later than it aims at is still live

let hls = null;
let retryTimer = 0;
let retryMs = FIRST_RETRY_MS;
let recoveries = 0;
let lastTime = -1;
let lastProgress = performance.now();
let finished = false;
let played = false;
let rewound = false; // whether the long playlist is played
let wanted = NaN; // the moment that is being gone to
let moves = 0; // how often the viewer has gone somewhere
let absentSince = NaN; // since when there is no such stream
let lookedAt = -Infinity; // when the server was asked why something is missing
let countedAt = -Infinity; // when the server was asked how many watch
let isBegun = true; // whether anything may be loaded
let paused = null; // when what was live was paused, and at which moment
const loaded = [];
const rewind = new RewindWindow(address(main.dataset.rewind));
const timeline = new Timeline({ seek: goTo, live: goLive, clips: address(main.dataset.clip), pictures: address(main.dataset.pictures) });
const choices = new Choices(video);
const controls = new Controls(video, { start: press, muted: asked.has("muted") ? asked.get("muted") !== "0" : undefined });

/* What a test, or a curious person at the console, can read. */
window.rapidrtmp = {
  get currentTime() { return video.currentTime; },
  get latency() { return latency(); },
  get playing() { return playingMs(); },
  get rewound() { return rewound; },
  get droppedFrames() { return quality().droppedVideoFrames; },
  get decodedFrames() { return quality().totalVideoFrames; },
  get state() { return document.getElementById("state").dataset.kind; },
  get engine() { return hls ? "hls.js" : video.src ? "native" : "none"; },
  get audioTracks() { return hls ? hls.audioTracks.length : 0; },
  get sizes() { return hls ? hls.levels.length : 0; },
  set size(height) { if (hls) hls.nextLevel = hls.levels.findIndex((level) => level.height === height); },
  get audioTrack() { return hls ? hls.audioTrack : -1; },
  get isAuto() { return hls ? hls.autoLevelEnabled : true; },
  recoveries: 0,
};

/* The address of the stream's page, which that of the player alone has all of, and a folder more. */
function pageAddress() {
  if (!isEmbedded) return location.href;
  const root = new URL(main.dataset.root, location.href);
  return new URL(location.pathname.slice(root.pathname.length + "embed/".length), root).href;
}

function quality() {
  if (video.getVideoPlaybackQuality) return video.getVideoPlaybackQuality();
  return {
    droppedVideoFrames: video.webkitDroppedFrameCount || 0,
    totalVideoFrames: video.webkitDecodedFrameCount || 0,
  };
}

/* The segments that are known to the player, where that is hls.js. */
function details() {
  return hls ? hls.latestLevelDetails : null;
}

/* The moment that is shown, by the playlist's own dates; NaN where there are none. */
function playingMs() {
  if (hls) return details() ? dateOf(details().fragments, video.currentTime) : NaN;
  return startMs() + video.currentTime * 1000;
}

/* The moment at position 0 in a browser that plays HLS by itself. */
function startMs() {
  const start = video.getStartDate ? video.getStartDate() : null;
  return start ? start.getTime() : NaN;
}

/* Seconds behind the encoder. */
function latency() {
  if (!played || hasEnded()) return NaN;
  const playing = playingMs();
  if (Number.isFinite(playing)) return Math.max((Date.now() - playing) / 1000, 0);
  return hls && hls.latency > 0 ? hls.latency : NaN;
}

function say(kind, words) {
  const state = document.getElementById("state");
  if (state.textContent === words && state.dataset.kind === kind) return;
  state.dataset.kind = kind;
  state.textContent = words;
}

function show(id, words) {
  const element = document.getElementById(id);
  if (element.textContent !== words) element.textContent = words;
}

function play() {
  const started = video.play();
  if (started) started.catch((error) => {
    if (error.name === "AbortError") return; // something else is to be played
    controls.quieten();
    video.play().catch(() => say("waiting", "Press play to start"));
  });
}

/* The viewer wants to watch. */
function press() {
  begin.hidden = true;
  if (isBegun) {
    play();
    return;
  }
  isBegun = true;
  start();
}

// ── starting and ending ─────────────────────────────────────────────────────────────────────────────────────────────

function stop() {
  clearTimeout(retryTimer);
  if (hls) {
    choices.leave();
    hls.destroy();
    hls = null;
  } else if (video.src) {
    video.removeAttribute("src");
    video.load();
  }
}

/* Begin again, a little later each time. What is rewound begins where it was, if that is known. */
function retry(kind, words) {
  if (rewound && !Number.isFinite(wanted)) wanted = playingMs();
  rewound = rewound && Number.isFinite(wanted);
  stop();
  say(kind, words);
  retryTimer = setTimeout(rewound ? restart : start, retryMs);
  retryMs = Math.min(retryMs * 1.5, LONGEST_RETRY_MS);
}

async function restart() {
  if (await rewind.load()) start();
  else goLive();
}

// ── what is missing ─────────────────────────────────────────────────────────────────────────────────────────────────

/* There is no such stream now: wait for it. */
function awaitStream() {
  if (!Number.isFinite(absentSince)) absentSince = performance.now();
  retry("waiting", "Waiting for the stream to begin…");
}

/* Whether the stream is there, and has no picture or no sound. */
function isPartial() {
  if (!played || finished) return false;
  return !video.videoWidth || Boolean(hls && hls.levels.length && !hls.levels[hls.loadLevel]?.audioCodec && !hls.audioTracks.length);
}

/* Say why there is no picture or no sound, if the server knows; and that no one publishes, if that is so for long. */
function explain() {
  const now = performance.now();
  const isAbsent = Number.isFinite(absentSince);
  if (!isAbsent && !isPartial()) {
    showReason("");
    lookedAt = -Infinity;
    return;
  }
  if (now - lookedAt < LOOK_MS[isAbsent ? "waiting" : "playing"]) return;
  lookedAt = now;
  fetch(notice, { cache: "no-store" })
    .then((answer) => (answer.ok ? answer.json() : { notice: "" }))
    .then((found) => { if (lookedAt === now) showReason(found.notice); })
    .catch(() => {}); // the server is away: what was said stays
}

function showReason(words) {
  const reason = document.getElementById("reason");
  if (reason.textContent !== words) reason.textContent = words;
  reason.hidden = !words;
  const isLost = Number.isFinite(absentSince) && performance.now() - absentSince >= ABSENT_MS;
  document.getElementById("way-back").hidden = !isLost || Boolean(words);
}

// ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/* The stream has ended: leave the last picture up, or show it, and look now and then whether the stream is back. */
function finish() {
  clearTimeout(retryTimer);
  finished = true;
  if (hls && played) hls.stopLoad();
  say("ended", "The stream has ended; this page waits for it to return");
  retryTimer = setTimeout(lookForReturn, LONGEST_RETRY_MS);
}

async function lookForReturn() {
  try {
    const answer = await fetch(media, { cache: "no-store" });
    if (answer.ok && !(await answer.text()).includes("#EXT-X-ENDLIST")) {
      rewound = false;
      start();
      return;
    }
  } catch {
    // the server is away: that is no reason to stop looking
  }
  retryTimer = setTimeout(lookForReturn, LONGEST_RETRY_MS);
}

function start() {
  keepPicture();
  stop();
  finished = played = false;
  video.autoplay = true;
  paused = null;
  lastProgress = performance.now();
  if (window.Hls && Hls.isSupported()) startHlsJs();
  else if (video.canPlayType("application/vnd.apple.mpegurl")) startNative();
  else say("failed", "This browser cannot play live streams");
}

function startHlsJs() {
  hls = new Hls({
    lowLatencyMode: !rewound,
    startPosition: rewound ? positionOf(rewind.segments, wanted) : -1,
    backBufferLength: 30,
    enableInterstitialPlayback: false, // there are none, and what plays them resumes what was paused
    maxLiveSyncPlaybackRate: rewound ? 1 : 1.1,
    manifestLoadPolicy: {
      default: { maxTimeToFirstByteMs: 15000, maxLoadTimeMs: 20000, timeoutRetry: null, errorRetry: null },
    },
  });
  hls.on(Hls.Events.MANIFEST_LOADED, (_, data) => {
    if (!rewound) rewind.announce(data.sessionData);
    checkCodecs(data.levels.map((level) => level.attrs.CODECS));
  });
  hls.on(Hls.Events.MANIFEST_PARSED, () => {
    absentSince = NaN;
    if (!finished) play();
  });
  hls.on(Hls.Events.LEVEL_LOADED, (_, data) => {
    if (data.details.live || played || rewound || finished) return;
    finish();
    video.autoplay = false;
    video.pause();
  });
  choices.follow(hls);
  hls.on(Hls.Events.FRAG_BUFFERED, loadedFragment);
  hls.on(Hls.Events.ERROR, (_, data) => {
    if (data.fatal && !finished && data.details !== Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) recover(data);
  });
  hls.loadSource(rewound ? rewind.url : multivariant);
  hls.attachMedia(video);
}

/* Say so where the browser cannot decode what there is; the encoder may be set to something else meanwhile. */
function checkCodecs(variants) {
  const source = window.ManagedMediaSource || window.MediaSource;
  const takes = (codec) => source.isTypeSupported(`video/mp4; codecs="${codec}"`);
  const lacking = lackingCodecs(variants, (codec) => takes(codec) || takes(codec.toLowerCase()));
  if (lacking) retry("failed", "This browser cannot decode " + lacking);
}

function startNative() {
  video.src = rewound ? rewind.url : multivariant;
  if (rewound) {
    video.addEventListener("loadedmetadata", () => { video.currentTime = (wanted - startMs()) / 1000; }, { once: true });
  } else {
    fetch(multivariant).then((answer) => answer.text()).then((text) => rewind.announce(text)).catch(() => {});
  }
  play();
}

function recover(error) {
  recoveries += 1;
  window.rapidrtmp.recoveries = recoveries;
  const status = error.response ? error.response.code : 0;
  if (error.type === Hls.ErrorTypes.MEDIA_ERROR && recoveries % 4 !== 0) {
    say("waiting", "Recovering from a playback problem…");
    hls.recoverMediaError();
    return;
  }
  if (status === 401 || status === 403) {
    stop();
    say("failed", reasonOf(error) || "This link does not let you watch the stream");
    return;
  }
  if (status === 404) rewound = false;
  if (status === 404) awaitStream();
  else if (status === 429 || status === 503) retry("waiting", (reasonOf(error) || "The server is busy") + "; trying again…");
  else retry("waiting", "The stream was interrupted; reconnecting…");
}

// ── rewinding ───────────────────────────────────────────────────────────────────────────────────────────────────────

/* Go to a moment. Forward, live begins where the window ends; backward, there is no more than the window. */
async function goTo(ms, isForward = ms > playingMs()) {
  const move = ++moves;
  wanted = ms;
  const known = rewound && details() ? details().fragments : (await rewind.load()) && rewind.segments;
  if (move !== moves) return; // another moment is wanted meanwhile
  wanted = ms; // what plays on while the playlist comes has forgotten it
  if (!known) {
    goLive();
    return;
  }
  const limit = dateOf(known, endOf(known) - 1.5 * known[known.length - 1].duration);
  if (ms > limit && isForward && !hasEnded()) {
    goLive();
    return;
  }
  wanted = Math.max(Math.min(ms, limit), known[0].programDateTime);
  if (rewound && hls && !finished) {
    video.currentTime = positionOf(known, wanted);
    play();
  } else {
    rewound = true;
    say("waiting", "Rewinding…");
    start();
  }
}

function goLive() {
  moves += 1;
  wanted = NaN;
  if (!rewound && hls && !finished && hls.liveSyncPosition !== null) {
    video.currentTime = hls.liveSyncPosition;
    play();
  } else if (rewound || !finished) {
    rewound = false;
    say("waiting", "Going live…");
    start();
  }
}

function hasEnded() {
  return finished || (details() !== null && !details().live);
}

function isLive() {
  if (rewound || finished || !isBegun) return false;
  if (!played) return true;
  if (video.paused) return false;
  return !hls || hls.latency < (hls.targetLatency || 0) + SLACK_S;
}

/* There is a timeline as soon as there is something to go back to. */
function showTimeline() {
  const listed = details();
  if (!rewind.lengthMs) {
    timeline.hide();
    timeline.showBadge(isLive(), hasEnded());
    return;
  }
  if (listed && listed.fragments.length) {
    rewind.sawEdge(dateOf(listed.fragments, listed.edge) + (listed.live ? 1000 * listed.age : 0), !listed.live);
  }
  if (!rewind.isThere) {
    if (listed ? listed.fragments.length > 1 : played) rewind.loadOnce();
    return;
  }
  const playing = Number.isFinite(wanted) ? wanted : played ? playingMs() : NaN;
  timeline.show({
    first: rewind.firstMs,
    edge: rewind.edgeMs,
    playing: Number.isFinite(playing) ? playing : rewind.edgeMs,
    isLive: isLive(),
    hasEnded: hasEnded(),
  });
}

/* What is shown stays until there is another picture. */
function keepPicture() {
  if (!video.videoWidth || video.readyState < 2) return;
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.getContext("2d").drawImage(video, 0, 0);
  still.hidden = false;
}

// ── what happens ────────────────────────────────────────────────────────────────────────────────────────────────────

video.addEventListener("error", () => {
  if (!hls && video.src) awaitStream();
});
video.addEventListener("canplay", () => {
  if (video.autoplay && video.paused && !played && !finished) play(); // what asked before was cut off, or refused silently
});
video.addEventListener("ended", finish);
video.addEventListener("loadedmetadata", () => {
  absentSince = NaN;
  if (finished && !played) video.currentTime = Math.max(video.duration - 0.1, 0);
});
video.addEventListener("playing", () => { still.hidden = true; });
video.addEventListener("pause", () => {
  if (!rewound && !finished && video.readyState >= 2) paused = { at: performance.now(), ms: playingMs() };
});
video.addEventListener("play", () => {
  if (paused && rewind.isThere && performance.now() - paused.at > LONG_PAUSE_MS) goTo(paused.ms, false);
  paused = null;
});
begin.addEventListener("click", press);
document.addEventListener("visibilitychange", () => {
  lastProgress = performance.now(); // a hidden page is throttled: that is no stall
});

function watch() {
  showNumbers();
  showTimeline();
  explain();
  countViewers();
  if (finished || !isBegun) return;
  const now = performance.now();
  const active = Boolean(hls || video.src);
  if (video.currentTime !== lastTime) {
    lastTime = video.currentTime;
    lastProgress = now;
    if (active && !video.paused && !video.seeking && video.readyState >= 3) progressed();
  } else if (active && video.paused && video.readyState >= 2) {
    lastProgress = now;
    say("waiting", "Paused");
  } else if (active && !document.hidden && now - lastProgress > STUCK_MS) {
    retry("waiting", "The stream was interrupted; reconnecting…");
  } else if (active && video.readyState >= 1 && now - lastProgress > 2000) {
    say("waiting", "Buffering…");
  }
}

function progressed() {
  retryMs = FIRST_RETRY_MS;
  played = true;
  wanted = NaN;
  if (rewound) say("behind", "Rewound");
  else say("live", "Live");
  controls.offerSound();
}

/* Ask how many watch, where that is shown and someone looks. */
function countViewers() {
  const now = performance.now();
  if (isEmbedded || document.hidden || now - countedAt < COUNT_MS) return;
  countedAt = now;
  fetch(viewers, { cache: "no-store" })
    .then((answer) => (answer.ok ? answer.json() : null))
    .then((found) => show("viewers", found ? String(found.viewers) : "–"))
    .catch(() => {}); // the server is away: what was said stays
}

function showNumbers() {
  const behind = latency();
  show("latency", !Number.isFinite(behind) ? "–" : behind < 60 ? behind.toFixed(1) + " s" : clock(behind * 1000));
  show("bitrate", bitrate());
  show("resolution", video.videoWidth ? video.videoWidth + "×" + video.videoHeight : "–");
  show("bandwidth", hls && played && hls.bandwidthEstimate ? megabits(hls.bandwidthEstimate) : "–");
  show("dropped", quality().totalVideoFrames ? String(quality().droppedVideoFrames) : "–");
}

/* The media's own bitrate, from the sizes of what was loaded lately. */
function loadedFragment(_, data) {
  const seconds = (data.part || data.frag).duration;
  if (data.frag.sn === "initSegment" || !seconds || !data.stats.loaded) return;
  loaded.push([data.stats.loaded, seconds]);
  if (loaded.length > 12) loaded.shift();
}

function bitrate() {
  const seconds = loaded.reduce((sum, [, duration]) => sum + duration, 0);
  const bytes = loaded.reduce((sum, [size]) => sum + size, 0);
  return seconds ? megabits((bytes * 8) / seconds) : "–";
}

// ── the beginning ───────────────────────────────────────────────────────────────────────────────────────────────────

if (asked.get("controls") === "0") document.body.dataset.bare = "";
if (!isEmbedded) offerSharing(page, embedAddress(), document.title);
setInterval(watch, 250);
if (asked.get("autoplay") === "0") {
  isBegun = false;
  begin.hidden = false;
  say("ended", "Press play to start");
} else {
  start();
}

/* The address of the player alone. */
function embedAddress() {
  const root = new URL(main.dataset.root, page);
  return new URL("embed/" + new URL(page).pathname.slice(root.pathname.length), root).href;
}
