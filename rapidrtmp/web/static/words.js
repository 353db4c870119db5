"use strict";
/* What the pages say: times as people say them, and what a server answered. */

/* A span of time: 0:32, 1:02:03. */
export function clock(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? minutes + ":" + two(seconds % 60)
    : Math.floor(minutes / 60) + ":" + two(minutes % 60) + ":" + two(seconds % 60);
}

/* A moment by the wall clock of whoever looks; with its day, if that is not today. */
export function timeOfDay(ms) {
  const moment = new Date(ms);
  const isToday = moment.toDateString() === new Date().toDateString();
  const time = moment.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return isToday ? time : moment.toLocaleDateString(undefined, { weekday: "short" }) + " " + time;
}

/* Why the server refused what hls.js asked for, in the server's own words; empty if it did not say. */
export function reasonOf(error) {
  try {
    return JSON.parse(error.networkDetails.responseText).error || "";
  } catch {
    return "";
  }
}
