// The Showroom: a run's steps as they happen. Without this script a form shows the result on a page of its own.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const { gettext, ngettext } = mlops;
  const form = document.getElementById("run");
  const steps = document.getElementById("steps");
  const progress = document.getElementById("progress");
  const result = document.getElementById("result");
  if (form && steps) form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
  const boxes = form ? [...form.querySelectorAll("input[name=key][type=checkbox]")] : [];
  const all = document.getElementById("all");
  if (boxes.length) {
    form.addEventListener("click", choose);
    form.addEventListener("change", count);
    form.addEventListener("reset", () => setTimeout(count));
    window.addEventListener("pageshow", count); // the browser has restored what was chosen
    count();
  }

  function count() {
    const number = boxes.filter((box) => box.checked).length;
    document.getElementById("chosen").textContent = number
      ? ngettext("%(number)s chosen", "%(number)s chosen", number) : gettext("choose one or more cases");
    all.checked = number === boxes.length;
    all.indeterminate = number > 0 && number < boxes.length;
  }

  // A click anywhere in a row chooses its case; with Shift, all cases from the last click to this one.
  let last = null;
  function choose(event) {
    if (event.target === all) {
      for (const box of boxes) box.checked = all.checked;
      return;
    }
    const box = event.target.closest("tbody tr")?.querySelector("input[name=key]");
    if (!box || event.target.closest("a, button")) return;
    if (!event.shiftKey && String(getSelection())) return; // text was selected to be copied
    if (event.target !== box) box.checked = !box.checked;
    if (event.shiftKey && last) {
      const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
      for (const each of boxes.slice(from, to + 1)) each.checked = box.checked;
      getSelection().removeAllRanges();
    }
    last = box;
    count();
  }

  // The columns of features can be folded away; the browser remembers it for all models.
  const FOLDED = "mlops-features-folded";
  const fold = document.getElementById("fold-inputs");
  function foldInputs(isFolded) {
    document.getElementById("case-table").classList.toggle("folded", isFolded);
    fold.setAttribute("aria-expanded", String(!isFolded));
  }
  if (fold) {
    try { foldInputs(localStorage.getItem(FOLDED) === "yes"); } catch { /* the browser keeps nothing for us */ }
    fold.addEventListener("click", () => {
      const isFolded = fold.getAttribute("aria-expanded") === "true";
      foldInputs(isFolded);
      try { localStorage.setItem(FOLDED, isFolded ? "yes" : "no"); } catch { /* as above */ }
    });
  }

  // A slider and its field say the same; outside of the range that is known, the page says so.
  for (const slider of document.querySelectorAll("input[type=range][data-of]")) {
    const field = document.getElementById(slider.dataset.of);
    const outside = document.getElementById(slider.dataset.of.replace("feature", "outside"));
    const check = () => {
      const value = Number(field.value);
      const isOutside = field.value.trim() !== ""
        && (value < Number(slider.dataset.least) || value > Number(slider.dataset.greatest));
      outside.textContent = isOutside ? gettext("outside of the known range") : "";
    };
    const follow = () => {
      if (field.value.trim() !== "") slider.value = field.value;
      check();
    };
    slider.addEventListener("input", () => {
      // Without the last digits of a sum of steps; field by field in the column's own notation.
      field.value = String(Number(Number(slider.value).toPrecision(12)));
      check();
      changed(slider);
    });
    field.addEventListener("input", () => { follow(); changed(slider); });
    form.addEventListener("reset", () => setTimeout(follow));
    follow();
  }

  // What if: the result follows each change, one run at a time; the next one has the newest values.
  const LIVE_AFTER_MS = 300;
  const isLive = form?.dataset.live !== undefined;
  let timer = 0;
  let isRunning = false;
  let isOutdated = false;
  function changed(slider) {
    if (!isLive) return;
    if (slider) drawCurveOver(slider);
    clearTimeout(timer);
    timer = setTimeout(runLive, LIVE_AFTER_MS);
  }
  function drawCurveOver(slider) {
    const field = document.getElementById(slider.dataset.of);
    form.elements.curve.value = field.name.replace("set.", "");
    form.elements["curve.low"].value = slider.min;
    form.elements["curve.high"].value = slider.max;
  }
  // A number that is being typed (`1e`) is none yet.
  const isReady = () => [...form.querySelectorAll("input[type=range][data-of]")].every((slider) => {
    const value = document.getElementById(slider.dataset.of).value;
    return value.trim() === "" || Number.isFinite(Number(value));
  });
  async function runLive() {
    if (isReady()) await run({ isLive: true });
  }
  if (isLive) {
    for (const field of form.querySelectorAll("input[name^='set.']")) {
      const slider = form.querySelector(`input[type=range][data-of="${field.id}"]`);
      if (!slider) field.addEventListener("input", () => changed());
      else for (const each of [field, slider]) each.addEventListener("focus", () => drawCurveOver(slider));
    }
    form.addEventListener("reset", () => setTimeout(changed));
  }

  function show(step, state, text) {
    const item = steps.querySelector(`[data-step="${step}"]`);
    item.dataset.state = state;
    item.querySelector(".step-text").textContent = text;
    const name = item.querySelector(".step-name").textContent;
    progress.textContent = state === "started" ? gettext("%(step)s: running", { step: name }) : "";
  }

  // Where the browser comes back to this page, e.g. from Why, its last result is there again.
  const KEPT = "mlops-result";
  const here = location.pathname + location.search;
  function keep(html) {
    try { sessionStorage.setItem(KEPT, JSON.stringify({ here, html })); } catch { /* full, or not allowed */ }
  }
  function kept() {
    try {
      const found = JSON.parse(sessionStorage.getItem(KEPT));
      return found?.here === here ? found.html : null;
    } catch {
      return null;
    }
  }
  if (steps && result && !isLive && performance.getEntriesByType("navigation")[0]?.type === "back_forward") {
    const html = kept();
    if (html) showResult(html);
  }

  function showResult(html) {
    mlops.replace(result, html);
    for (const link of result.querySelectorAll("a[data-path]")) link.href = mlops.url(link.dataset.path);
    for (const ask of result.querySelectorAll("form[data-path]")) ask.action = mlops.url(ask.dataset.path);
  }

  function apply(news, isQuiet) {
    if (news.step && isQuiet) return;
    if (news.step) show(news.step, news.state, news.text);
    else if (news.loading === "loading") {
      progress.textContent = gettext("Loading the model. Only the first run waits for this.");
    } else if (news.html !== undefined) {
      progress.textContent = "";
      const open = [...result.querySelectorAll("details")].map((details) => details.open);
      showResult(news.html);
      if (!isLive) keep(news.html);
      if (isQuiet) result.querySelectorAll("details").forEach((each, n) => { each.open = open[n] ?? false; });
      if (form.elements.continues) {
        form.elements.continues.value = result.querySelector("[data-dispatch]")?.dataset.dispatch || "";
      }
      if (isQuiet) {
        progress.textContent = result.querySelector(".prediction")?.textContent || "";
        return;
      }
      result.focus({ preventScroll: true });
      bringIntoView();
    }
  }

  function bringIntoView() {
    const { top, height } = result.getBoundingClientRect();
    if (top < 0 || top + Math.min(height, 200) > innerHeight) result.scrollIntoView({ block: "start" });
  }

  function showError(error) {
    const notice = document.createElement("p");
    notice.className = "notice notice-error";
    notice.setAttribute("role", "alert");
    mlops.explain(notice, error);
    result.replaceChildren(notice);
    progress.textContent = "";
    if (!isLive) bringIntoView();
  }

  async function run({ isLive: isQuiet = false } = {}) {
    const button = form.querySelector("button.primary");
    if (button.disabled) return;
    if (isRunning) {
      isOutdated = true;
      return;
    }
    if (boxes.length && !boxes.some((box) => box.checked)) {
      showError(new Error(gettext("Choose at least one case.")));
      boxes[0].focus({ preventScroll: true });
      return;
    }
    isRunning = true;
    if (isQuiet) result.setAttribute("aria-busy", "true");
    else {
      button.disabled = true;
      steps.hidden = false;
      steps.scrollIntoView({ block: "nearest" });
      for (const item of steps.children) show(item.dataset.step, "waiting", "");
      result.replaceChildren();
    }
    let ended = false;
    try {
      const response = await mlops.request(form.action, {
        method: "POST",
        headers: { Accept: "application/x-ndjson", "Content-Type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams(new FormData(form)),
      });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const lines = text.split("\n");
        text = lines.pop();
        for (const line of lines) {
          const news = JSON.parse(line);
          ended = ended || news.html !== undefined;
          apply(news, isQuiet);
        }
      }
      if (!ended) {
        throw new Error(gettext("The server stopped before the result arrived. See Dispatches for what was recorded."));
      }
    } catch (error) {
      showError(error);
    } finally {
      button.disabled = false;
      isRunning = false;
      result.removeAttribute("aria-busy");
      if (isOutdated) {
        isOutdated = false;
        changed();
      }
      const state = document.getElementById("state");
      if (state) mlops.refresh(state);
    }
  }
});
