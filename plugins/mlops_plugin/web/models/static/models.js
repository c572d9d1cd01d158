// The list of models: a card asks how right its model is once it is in view, one card after the other.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const waiting = [];
  let isAsking = false;

  async function ask(place) {
    const shown = place.querySelector("span");
    try {
      const words = await (await mlops.request(place.dataset.accuracy, { headers: { Accept: "text/html" } })).text();
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
