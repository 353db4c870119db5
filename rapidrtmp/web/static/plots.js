"use strict";
/* Small plots of what a stream did lately, drawn as SVG. */

const SVG = "http://www.w3.org/2000/svg";
const SPAN_MS = 600000;

/*
 * A figure: values at ages, in milliseconds before now; words says a value as people do. The plot begins at 0 and ends at
 * the greatest value.
 */
export function plot(title, ages, values, words) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const most = Math.max(...values, 0);
  const last = values.length ? words(values[values.length - 1]) : "–";
  caption.textContent = `${title}: ${last}, at most ${words(most)}`;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 600 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${title} of the last ten minutes: ${last} now, at most ${words(most)}`);
  const line = document.createElementNS(SVG, "path");
  const at = (index) => `${(600 - (600 * ages[index]) / SPAN_MS).toFixed(1)} ${(98 - (96 * values[index]) / (most || 1)).toFixed(1)}`;
  line.setAttribute("d", values.map((_, index) => (index ? "L" : "M") + at(index)).join(""));
  svg.append(line);
  figure.append(svg, caption);
  return figure;
}
