"use strict";
/* The address of a stream's page, and the code that shows it in another page, to be copied. */

/* page is the address of the page, embed that of the player alone. */
export function offerSharing(page, embed, title) {
  const frame = document.createElement("iframe");
  frame.src = embed;
  frame.width = 640;
  frame.height = 360;
  frame.title = title;
  frame.allow = "autoplay; fullscreen; picture-in-picture";
  frame.setAttribute("frameborder", "0");
  document.getElementById("link").value = page;
  document.getElementById("embed").value = frame.outerHTML;
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy(document.getElementById(button.dataset.copy), document.getElementById("copied")));
  }
}

/* Copy what a field holds, and say so. Without HTTPS there is no clipboard but that of a selection. */
export async function copy(field, said) {
  field.select();
  let isDone = false;
  try {
    await navigator.clipboard.writeText(field.value);
    isDone = true;
  } catch {
    isDone = document.execCommand("copy");
  }
  said.textContent = isDone ? "Copied" : "Selected: press Ctrl+C to copy";
}
