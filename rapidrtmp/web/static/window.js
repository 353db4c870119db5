"use strict";
/*
 * The rewind window of a stream: the segments of its long playlist, and what moments they stand for.
 *
 * Segments have the shape of hls.js's fragments: where they begin in the player's time and how long they last, in
 * seconds, and when they were, in milliseconds since 1970 (programDateTime).
 */

const SESSION_DATA = "org.rapidrtmp.rewind";
const RETRY_MS = 5000;

/* The moment that a position stands for; NaN where nothing is dated. */
export function dateOf(segments, position) {
  const segment = segments.findLast((each) => each.start <= position) || segments[0];
  return segment ? (segment.programDateTime ?? NaN) + (position - segment.start) * 1000 : NaN;
}

/* The position of a moment, or of the next one that there is. */
export function positionOf(segments, ms) {
  const segment = segments.find((each) => each.programDateTime + each.duration * 1000 > ms);
  return segment ? segment.start + Math.max(ms - segment.programDateTime, 0) / 1000 : endOf(segments);
}

/* The position at which the last of them ends. */
export function endOf(segments) {
  const last = segments[segments.length - 1];
  return last ? last.start + last.duration : 0;
}

/* The segments of a playlist, with the URIs of each and of its init segment as they are written. */
export function readSegments(text) {
  const segments = [];
  let start = 0;
  let duration = 0;
  let programDateTime = NaN;
  let init = "";
  let isGap = false;
  for (const line of text.split("\n")) {
    if (line.startsWith("#EXT-X-PROGRAM-DATE-TIME:")) programDateTime = Date.parse(line.slice(25));
    else if (line.startsWith("#EXT-X-MAP:")) init = line.match(/URI="([^"]*)"/)?.[1] ?? "";
    else if (line.startsWith("#EXT-X-GAP")) isGap = true;
    else if (line.startsWith("#EXTINF:")) duration = parseFloat(line.slice(8));
    if (!line || line.startsWith("#") || !duration) continue;
    segments.push({ start, duration, programDateTime, init, isGap, uri: line });
    start += duration;
    programDateTime += duration * 1000;
    isGap = false;
    duration = 0;
  }
  return segments;
}

export class RewindWindow {
  /* url is that of the long playlist. */
  constructor(url) {
    this.url = url;
    this.lengthMs = 0; // as the stream announces it; 0 if it has none
    this.segments = []; // that the playlist listed when it was read last
    this.newest = -Infinity; // the moment of the live edge, less the time on the page's own clock
    this.endMs = null; // the moment of the end, once it has ended
    this.asked = -Infinity;
  }

  /* Whether there is anything to go back to. */
  get isThere() {
    return this.lengthMs > 0 && this.segments.length > 0;
  }

  /* Take note of what a multivariant playlist says, as hls.js or as text. */
  announce(said) {
    const inText = (text) => text.match(`DATA-ID="${SESSION_DATA}",VALUE="(\\d+)"`)?.[1];
    const seconds = typeof said === "string" ? inText(said) : said?.[SESSION_DATA]?.VALUE;
    this.lengthMs = 1000 * (parseInt(seconds, 10) || 0);
  }

  /* Read the playlist; whether there is anything in it. */
  async load() {
    this.asked = performance.now();
    try {
      const answer = await fetch(this.url);
      if (!answer.ok) return this.segments.length > 0;
      const text = await answer.text();
      this.segments = readSegments(text);
      this.sawEdge(dateOf(this.segments, endOf(this.segments)), text.includes("#EXT-X-ENDLIST"));
    } catch {
      // the server is away; what is known already may still be there when it is back
    }
    return this.segments.length > 0;
  }

  /* Read it for the first time, or again a while after that failed. */
  loadOnce() {
    if (!this.isThere && performance.now() - this.asked > RETRY_MS) this.load();
  }

  /* Take note of how far the stream has come, and whether that is its end. */
  sawEdge(ms, isEnd = false) {
    if (!Number.isFinite(ms)) return;
    this.newest = Math.max(this.newest, ms - performance.now());
    this.endMs = isEnd ? ms : null;
  }

  /* The moments at which it begins and ends now. */
  get edgeMs() {
    return this.endMs ?? this.newest + performance.now();
  }

  get firstMs() {
    return Math.max(this.segments[0].programDateTime, this.edgeMs - this.lengthMs);
  }
}
