"use strict";
/*
 * Pictures in lists: films of one keyframe (poster.mp4), loaded when they come into view. One that cannot be had leaves
 * its place empty.
 */

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    load(target);
  }
}, { rootMargin: "200px" });

function load(video) {
  const url = new URL(video.dataset.src, location.href);
  url.searchParams.set("at", String(Math.floor(Date.now() / 30000)));
  video.muted = true;
  video.src = url.href;
}

/* Load the pictures of a list as they are scrolled to; those that are known already stay. */
export function showPictures(list) {
  for (const video of list.querySelectorAll("video[data-src]:not([data-known])")) {
    video.dataset.known = "";
    seen.observe(video);
  }
}

/* Load those that were loaded again, for what they show has changed. */
export function refreshPictures(list) {
  for (const video of list.querySelectorAll("video[src]")) load(video);
}
