"use strict";
/*
 * Keeps the list of live streams up to date: fetches the page itself and takes over what is new. A row that stays is
 * the same element as before, so focus and the place that is scrolled to stay where they are.
 */
import { refreshPictures, showPictures } from "./pictures.js";

const EVERY_MS = 5000;
const PICTURES_MS = 30000;
const list = document.querySelector(".streams");
const state = document.getElementById("state");

/* What tells a row from others; the one that says that there is nothing has no address. */
function nameOf(row) {
  const link = row.querySelector("a");
  return link ? link.getAttribute("href") : "";
}

function update(fresh) {
  const names = new Set(fresh.map(nameOf));
  for (const row of [...list.children]) if (!names.has(nameOf(row))) row.remove();
  const shown = new Map([...list.children].map((row) => [nameOf(row), row]));
  let at = list.firstElementChild; // both are in order: no row that stays is moved, which would cost it the focus
  for (const row of fresh) {
    const known = shown.get(nameOf(row));
    if (known) {
      const [before, now] = [known, row].map((each) => each.querySelector(".facts"));
      if (before && now && before.textContent !== now.textContent) before.textContent = now.textContent;
    }
    if (known && known === at) at = at.nextElementSibling;
    else list.insertBefore(known || document.adoptNode(row), at);
  }
  showPictures(list);
}

async function refresh() {
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", headers: { Accept: "text/html" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const streams = page.querySelector(".streams");
    if (!streams) throw new Error("another page");
    update([...streams.children]);
    say("");
  } catch {
    say("The server does not answer; this page keeps asking");
  }
}

function say(words) {
  if (state.textContent !== words) state.textContent = words;
}

showPictures(list);
setInterval(() => { if (!document.hidden) refreshPictures(list); }, PICTURES_MS);
setInterval(() => { if (!document.hidden) refresh(); }, EVERY_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
