// The Showroom: a run's steps as they happen. Without this script a form shows the result on a page of its own.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("run");
  const steps = document.getElementById("steps");
  const progress = document.getElementById("progress");
  const result = document.getElementById("result");
  if (form && steps) form.addEventListener("submit", run);
  if (form) {
    form.addEventListener("change", count);
    form.addEventListener("reset", () => setTimeout(count));
    count();
  }

  function count() {
    const chosen = document.getElementById("chosen");
    if (!chosen) return;
    const number = form.querySelectorAll("input[name=key]:checked").length;
    chosen.textContent = number ? `${number} chosen` : "choose one or more cases";
  }

  function show(step, state, text) {
    const item = steps.querySelector(`[data-step="${step}"]`);
    item.dataset.state = state;
    item.querySelector(".step-text").textContent = text;
    progress.textContent = state === "started" ? `${item.querySelector(".step-name").textContent}: running` : "";
  }

  function apply(news) {
    if (news.step) show(news.step, news.state, news.text);
    else if (news.loading === "loading") progress.textContent = "Loading the model. Only the first run waits for this.";
    else if (news.html !== undefined) {
      progress.textContent = "";
      mlops.replace(result, news.html);
      for (const link of result.querySelectorAll("a[data-path]")) link.href = mlops.url(link.dataset.path);
      for (const ask of result.querySelectorAll("form[data-path]")) ask.action = mlops.url(ask.dataset.path);
      result.focus({ preventScroll: true });
      result.scrollIntoView({ block: "nearest" });
    }
  }

  function showError(error) {
    const notice = document.createElement("p");
    notice.className = "notice notice-error";
    notice.setAttribute("role", "alert");
    mlops.explain(notice, error);
    result.replaceChildren(notice);
    progress.textContent = "";
  }

  async function run(event) {
    event.preventDefault();
    const button = form.querySelector("button.primary");
    if (button.disabled) return;
    if (form.querySelector("input[type=checkbox]") && !form.querySelector("input[name=key]:checked")) {
      showError(new Error("Choose at least one case."));
      form.querySelector("input[type=checkbox]").focus();
      return;
    }
    button.disabled = true;
    steps.hidden = false;
    steps.scrollIntoView({ block: "nearest" });
    for (const item of steps.children) show(item.dataset.step, "waiting", "");
    result.replaceChildren();
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
          apply(news);
        }
      }
      if (!ended) throw new Error("The server stopped before the result arrived. See Dispatches for what was recorded.");
    } catch (error) {
      showError(error);
    } finally {
      button.disabled = false;
      const state = document.getElementById("state");
      if (state) mlops.refresh(state);
    }
  }
});
