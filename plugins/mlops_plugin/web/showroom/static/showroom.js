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
  let clicked = null;
  function choose(event) {
    if (event.target === all) {
      for (const box of boxes) box.checked = all.checked;
      return;
    }
    const box = event.target.closest("tbody tr")?.querySelector("input[name=key]");
    if (!box || event.target.closest("a, button")) return;
    if (!event.shiftKey && String(getSelection())) return; // text was selected to be copied
    if (event.target !== box) box.checked = !box.checked;
    if (event.shiftKey && clicked) {
      const [from, to] = [boxes.indexOf(clicked), boxes.indexOf(box)].sort((a, b) => a - b);
      for (const each of boxes.slice(from, to + 1)) each.checked = box.checked;
      getSelection().removeAllRanges();
    }
    clicked = box;
    count();
  }

  const size = document.getElementById("page-rows");
  size?.addEventListener("change", () => size.form.requestSubmit());

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

  // A slider or a list and its field say the same; outside of what is known, the page says so.
  const controls = [...document.querySelectorAll("input[type=range][data-of], select[data-of]")];
  const fieldOf = (control) => document.getElementById(control.dataset.of);
  const categoriesOf = (list) => [...list.options].map((option) => option.value).filter(Boolean);
  const follow = (control) => {
    const { value } = fieldOf(control);
    const outside = document.getElementById(control.dataset.of.replace("feature", "outside"));
    if (control.type === "range") {
      if (value.trim() !== "") control.value = value;
      const isOutside = value.trim() !== ""
        && (Number(value) < Number(control.dataset.least) || Number(value) > Number(control.dataset.greatest));
      outside.textContent = isOutside ? gettext("outside of the known range") : "";
    } else {
      control.value = value; // no entry if it is not in the list
      outside.textContent = control.selectedIndex < 0 ? gettext("not in the list") : "";
    }
  };
  for (const control of controls) {
    const field = fieldOf(control);
    control.addEventListener("input", () => {
      // A number without the last digits of a sum of steps; field by field in the column's own notation.
      field.value = control.type === "range" ? String(Number(Number(control.value).toPrecision(12))) : control.value;
      follow(control);
      changed(control);
    });
    field.addEventListener("input", () => { follow(control); changed(control); });
    form.addEventListener("reset", () => setTimeout(follow, 0, control));
    follow(control);
  }

  // What if: the result follows each change, one run at a time; the next one has the newest values.
  const LIVE_AFTER_MS = 300;
  const isLive = form?.dataset.live !== undefined;
  let timer = 0;
  let isRunning = false;
  let isOutdated = false;
  let isAskedFor = false; // by the button, while a run that follows a change is under way
  function changed(control) {
    if (!isLive) return;
    if (control) drawCurveOver(control);
    clearTimeout(timer);
    timer = setTimeout(runLive, LIVE_AFTER_MS);
  }
  function drawCurveOver(control) {
    form.elements.curve.value = fieldOf(control).name.replace("set.", "");
    form.elements["curve.low"].value = control.min ?? "";
    form.elements["curve.high"].value = control.max ?? "";
  }
  // The form's fields; of a curve over categories also these.
  function asked() {
    const fields = new URLSearchParams(new FormData(form));
    const list = controls.find((control) => control.type !== "range"
      && fieldOf(control).name === `set.${fields.get("curve")}`);
    if (list) for (const category of categoriesOf(list)) fields.append("curve.value", category);
    return fields;
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
    for (const field of form.querySelectorAll("[name^='set.']")) {
      const control = controls.find((each) => fieldOf(each) === field);
      if (!control) field.addEventListener("input", () => changed());
      else for (const each of [field, control]) each.addEventListener("focus", () => drawCurveOver(control));
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

  // Where a person comes back to this page, e.g. from Why, its last result is there again, with what was chosen
  // or changed. The link above Why and What if leads back to the page of the list that it was.
  const KEPT = "mlops-result";
  const BACK = "mlops-back";
  const here = location.pathname + location.search;
  const fields = form ? [...form.querySelectorAll("[name^='set.']")] : [];
  function keep(html) {
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    const changes = fields.map((field) => field.value);
    try {
      sessionStorage.setItem(`${KEPT} ${isLive}`, JSON.stringify({ here, html, chosen, changes }));
    } catch { /* full, or not allowed */ }
  }
  function kept(ofLive) {
    try { return JSON.parse(sessionStorage.getItem(`${KEPT} ${ofLive}`)); } catch { return null; }
  }
  function comesBack() {
    let isLinked = false;
    try {
      isLinked = sessionStorage.getItem(BACK) === here;
      sessionStorage.removeItem(BACK);
    } catch { /* not allowed */ }
    return isLinked || performance.getEntriesByType("navigation")[0]?.type === "back_forward";
  }
  for (const link of document.querySelectorAll("a[data-back]")) {
    link.addEventListener("click", () => {
      const list = kept(false)?.here;
      if (!list || new URL(list, location).pathname !== new URL(link.href).pathname) return;
      link.href = list;
      try { sessionStorage.setItem(BACK, list); } catch { /* not allowed */ }
    });
  }
  const last = steps && result && comesBack() ? kept(isLive) : null;
  if (last?.here === here) {
    for (const box of boxes) box.checked = last.chosen.includes(box.value);
    if (boxes.length) count();
    fields.forEach((field, n) => { field.value = last.changes[n] ?? field.value; });
    controls.forEach(follow);
    showResult(last.html);
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
      keep(news.html);
      if (isQuiet) result.querySelectorAll("details").forEach((each, n) => { each.open = open[n] ?? false; });
      if (form.elements.continues) {
        form.elements.continues.value = result.querySelector("[data-dispatch]")?.dataset.dispatch || "";
      }
      if (isQuiet) {
        // Said, not shown: the result stands beside it.
        const said = Object.assign(document.createElement("span"), { className: "visually-hidden" });
        said.textContent = result.querySelector(".prediction")?.textContent || "";
        progress.replaceChildren(said);
        return;
      }
      result.focus({ preventScroll: true });
      bringIntoView();
    }
  }

  // What the list of cases does not wait for: last predictions, then the number of cases. Either may stay unknown.
  const BUSY_MS = 2000;
  async function ask(place, read) {
    for (let tries = 0; place?.dataset.ask && tries < 3; tries += 1) {
      if (tries) await new Promise((resume) => { setTimeout(resume, BUSY_MS); });
      try {
        const response = await mlops.request(place.dataset.ask);
        if (!response.headers.has("Retry-After")) return await read(response);
      } catch {
        return null;
      }
    }
    return null;
  }
  async function askBesideList() {
    const table = document.getElementById("case-table");
    const predictions = await ask(table, (response) => response.json());
    for (const box of predictions ? boxes : []) showLast(box.closest("tr").querySelector(".last"), predictions[box.value]);
    const found = document.getElementById("found");
    const words = await ask(found, (response) => response.text());
    if (words) found.textContent = words;
  }
  function showLast(cell, prediction) {
    if (!prediction) {
      cell.textContent = "\u2013";
      return;
    }
    const link = document.createElement("a");
    link.textContent = prediction.words;
    link.href = mlops.url(`dispatches/${encodeURIComponent(prediction.dispatch)}`);
    const when = prediction.at ? mlops.toTheMinute(new Date(prediction.at)) : "";
    link.title = when ? `${prediction.words}, ${when}` : prediction.words;
    cell.append(link);
  }
  askBesideList();

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
    if (isRunning) {
      isOutdated = true;
      isAskedFor ||= !isQuiet;
      return;
    }
    if (button.disabled) return;
    if (boxes.length && !boxes.some((box) => box.checked)) {
      showError(new Error(gettext("Choose at least one case.")));
      boxes[0].focus({ preventScroll: true });
      return;
    }
    isRunning = true;
    if (isQuiet) result.setAttribute("aria-busy", "true");
    else {
      clearTimeout(timer); // it has the newest values
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
        body: asked(),
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
      const [wasOutdated, wasAskedFor] = [isOutdated, isAskedFor];
      isOutdated = isAskedFor = false;
      if (wasAskedFor) run();
      else if (wasOutdated) changed();
      const state = document.getElementById("state");
      if (state) mlops.refresh(state);
    }
  }
});
