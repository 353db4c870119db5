"use strict";
/* What this browser remembers of how its user likes to watch; nothing where it may not, as in some frames. */

const PREFIX = "rapidrtmp.";

/* What was remembered under a name; undefined if nothing was. */
export function recall(name) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? undefined;
  } catch {
    return undefined;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // the browser keeps nothing for this page
  }
}
