// What pages can do beyond plain HTML and htmx. Everything works without it, only less comfortably.
"use strict";

// Copy buttons: <button data-copy="ID OF AN ELEMENT" hidden>Copy</button>; they show themselves where copying works.
const offerCopying = (root) => {
  for (const button of root.querySelectorAll("button[data-copy]")) button.hidden = !navigator.clipboard;
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent.trim());
    button.dataset.label ??= button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = button.dataset.label; }, 2000);
  } catch {
    getSelection().selectAllChildren(source);
  }
});

// "3 min ago" grows old while a page stays open.
const words = (seconds) => {
  for (const [name, length] of [["day", 86400], ["h", 3600], ["min", 60]]) {
    const number = Math.floor(seconds / length);
    if (number >= 1) return `${number} ${name}${name === "day" && number > 1 ? "s" : ""}`;
  }
  return seconds >= 5 ? `${seconds} s` : null;
};

const ageTimes = () => {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const seconds = Math.round((Date.now() - Date.parse(time.dateTime)) / 1000);
    const span = words(Math.abs(seconds));
    const text = span === null ? "just now" : seconds > 0 ? `${span} ago` : `in ${span}`;
    if (!time.hasAttribute("data-exact") && time.textContent !== text) time.textContent = text;
  }
};

// The menu of small screens closes with Escape.
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector("details.menu[open]")?.removeAttribute("open");
});

document.addEventListener("DOMContentLoaded", () => {
  offerCopying(document);
  setInterval(ageTimes, 5000);
});
document.addEventListener("htmx:after:swap", () => offerCopying(document));

// Live pages. The stream says "ended" when its session is over: loading again leads to the sign-in.
const showLive = (element, isOn) => {
  element.hidden = false;
  element.classList.toggle("off", !isOn);
  const text = element.querySelector("[data-live-text]");
  text.textContent = isOn ? text.dataset.on : text.dataset.off;
};

document.addEventListener("htmx:sse:after:connection", (event) => showLive(event.target, true));
document.addEventListener("htmx:sse:error", (event) => {
  if (event.detail.status === 401) location.reload();
  else showLive(event.target, false);
});
document.addEventListener("htmx:sse:before:connection", (event) => {
  if (event.detail.connection.attempt > 1) showLive(event.target, false);
});
// A list that grows by itself keeps its newest entries only.
const LONGEST = 200;
document.addEventListener("htmx:sse:after:message", () => {
  const entries = document.getElementById("entries");
  while (entries?.rows.length > LONGEST) entries.lastElementChild.remove();
});
document.addEventListener("ended", () => location.reload());
