// The list of models: a card asks how right its model is once it is in view, one card after the other.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const waiting = [];
  let isAsking = false;

  // A server that is busy is asked again, as showroom.js does.
  const BUSY_MS = 2000;
  async function wordsOf(address) {
    for (let tries = 0; tries < 3; tries += 1) {
      if (tries) await new Promise((resume) => { setTimeout(resume, BUSY_MS); });
      const response = await mlops.request(address, { headers: { Accept: "text/html" } });
      if (!response.headers.has("Retry-After")) return response.text();
    }
    return "";
  }

  async function ask(place) {
    const shown = place.querySelector("span");
    try {
      const words = await wordsOf(place.dataset.accuracy);
      shown.textContent = words || mlops.gettext("not known");
      shown.classList.toggle("hint", !words);
    } catch {
      shown.textContent = mlops.gettext("not known");
    }
  }

  async function askAll() {
    if (isAsking) return;
    isAsking = true;
    while (waiting.length) await ask(waiting.shift());
    isAsking = false;
  }

  const watch = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (isIntersecting) {
        watch.unobserve(target);
        waiting.push(target);
      }
    }
    askAll();
  });
  document.querySelectorAll("[data-accuracy]").forEach((place) => watch.observe(place));
});
