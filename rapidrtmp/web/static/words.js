"use strict";
/* What the pages say: times as people say them, codecs by name, and what a server answered. */

/* A span of time: 0:32, 1:02:03. */
export function clock(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? minutes + ":" + two(seconds % 60)
    : Math.floor(minutes / 60) + ":" + two(minutes % 60) + ":" + two(seconds % 60);
}

/* A bit rate: 2.50 Mbit/s. */
export function megabits(bits) {
  return (bits / 1e6).toFixed(2) + " Mbit/s";
}

/* A moment by the viewer's wall clock; with its day, if that is not today. */
export function timeOfDay(ms) {
  const moment = new Date(ms);
  const isToday = moment.toDateString() === new Date().toDateString();
  const time = moment.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return isToday ? time : moment.toLocaleDateString(undefined, { weekday: "short" }) + " " + time;
}

/* Codecs by what their strings begin with; the longer ones come first. */
const CODEC_NAMES = {
  "mp4a.40.34": "MP3", "mp4a.6B": "MP3", "mp4a.69": "MP3", mp4a: "AAC", opus: "Opus", flac: "FLAC", "ac-3": "AC-3",
  "ec-3": "E-AC-3", avc: "H.264", hvc: "HEVC", hev: "HEVC", av01: "AV1", vp09: "VP9", vp08: "VP8", vvc: "VVC",
};

/* What a browser lacks for a stream, by the CODECS of its variants: "HEVC and AC-3"; empty if it can play one of them. */
export function lackingCodecs(variants, isSupported) {
  const lacking = variants.map((codecs) => (codecs || "").split(",").filter((codec) => codec && !isSupported(codec.trim())));
  if (!lacking.length || lacking.some((codecs) => !codecs.length)) return "";
  return lacking[0].map((codec) => codecName(codec.trim())).join(" and ");
}

function codecName(codec) {
  const known = Object.keys(CODEC_NAMES).find((prefix) => codec.toLowerCase().startsWith(prefix.toLowerCase()));
  return known ? CODEC_NAMES[known] : codec;
}

/* Why the server refused what hls.js asked for, in the server's own words; empty if it did not say. */
export function reasonOf(error) {
  try {
    return JSON.parse(error.networkDetails.responseText).error || "";
  } catch {
    return "";
  }
}
