// The Monitor: ages that count up, the switch that pauses and resumes, the button that dispatches.
"use strict";

(() => {
  const { gettext } = mlops;
  const monitor = document.getElementById("monitor");
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let behind = 0; // the server's clock minus ours, in ms

  function inWords(seconds) {
    const whole = Math.max(0, Math.floor(seconds));
    const [unit, size] = UNITS.find(([, each]) => whole >= each) || UNITS.at(-1);
    return gettext("%(time)s ago", { time: `${Math.floor(whole / size)} ${unit}` });
  }

  function showAges() {
    for (const age of document.querySelectorAll(".age[data-since]")) {
      age.textContent = inWords((Date.now() + behind - Date.parse(age.dataset.since)) / 1000);
    }
  }

  // A notice about a dispatch ends with its run, any other after ten seconds.
  const NOTICE_MS = 10000;
  let followed = null; // the address of the run in Airflow's API
  let timer = 0;

  async function endNotice() {
    const run = followed;
    if (!run) return;
    let ended = true;
    try {
      const { state } = await (await mlops.request(run)).json();
      ended = ["success", "failed"].includes(state);
    } catch {
      // Gone, or not for this user to read: nothing more to be told of it.
    }
    if (ended && run === followed) announce("", null);
  }

  function announce(message, following) {
    clearTimeout(timer);
    followed = following;
    notify("done", message);
    if (message && !following) timer = setTimeout(() => notify("done", ""), NOTICE_MS);
  }

  // What is searched for is asked of the server, and stands in the address.
  function searchAsYouType(form) {
    let wait = 0;
    const show = () => {
      const asked = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
      const page = new URL(form.action);
      page.search = asked;
      history.replaceState(null, "", page);
      monitor.dataset.refresh = `${mlops.url("monitor-status")}?${asked}`;
      mlops.refresh(monitor);
    };
    form.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(show, 300); });
    form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(wait); show(); });
  }

  let soon = 0;
  const refreshSoon = () => { if (!document.hidden) mlops.refresh(monitor); };

  function afterRefresh() {
    const asOf = document.getElementById("as-of");
    if (asOf) behind = Date.parse(asOf.dataset.now) - Date.now();
    showAges();
    endNotice();
    // The first result of a probe is shown as soon as it is there.
    clearTimeout(soon);
    if (monitor.querySelector("[data-pending]")) soon = setTimeout(refreshSoon, 1000);
  }

  function notify(id, message) {
    const notice = document.getElementById(id);
    notice.hidden = !message;
    if (message instanceof Error) mlops.explain(notice, message);
    else notice.textContent = message;
  }

  // Airflow's REST API, with the user's permissions; Airflow writes its audit log.
  async function ask(button, method, path, body, done, { isFollowed = false } = {}) {
    button.disabled = true;
    notify("refused", "");
    try {
      const answer = await mlops.request(mlops.airflow(path), {
        method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
      });
      const { dag_run_id: run } = await answer.json();
      announce(done, run && isFollowed ? mlops.airflow(`${path}/${encodeURIComponent(run)}`) : null);
    } catch (error) {
      announce("", null);
      notify("refused", error);
    }
    button.disabled = false;
    button.focus({ preventScroll: true });
    await mlops.refresh(monitor);
  }

  monitor.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.dag) {
      const pause = button.getAttribute("aria-checked") === "true";
      const model = button.dataset.dag;
      const dag = encodeURIComponent(model);
      ask(button, "PATCH", `api/v2/dags/${dag}?update_mask=is_paused`, { is_paused: pause },
        pause ? gettext("%(model)s is paused.", { model }) : gettext("%(model)s is active again.", { model }));
    } else if (button.dataset.trigger) {
      const model = button.dataset.trigger;
      const dag = encodeURIComponent(model);
      const isActive = button.closest("tr").querySelector("[role=switch]").getAttribute("aria-checked") === "true";
      ask(button, "POST", `api/v2/dags/${dag}/dagRuns`, { logical_date: null },
        isActive ? gettext("%(model)s is being dispatched.", { model })
          : gettext("%(model)s is paused: it will be dispatched when you resume it.", { model }),
        { isFollowed: isActive });
    }
  });

  monitor.addEventListener("refreshed", afterRefresh);
  document.addEventListener("DOMContentLoaded", afterRefresh);
  document.querySelectorAll("#choose").forEach(searchAsYouType);
  setInterval(showAges, 1000);
})();
