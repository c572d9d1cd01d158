// Dispatches: the filter's times in the user's time zone, how often to refresh, running a dispatch again.
"use strict";

(() => {
  const { gettext } = mlops;
  const BUSY_EVERY_S = 3;
  const IDLE_EVERY_S = 30;
  const MOST_FAILURES = 20; // of Airflow to say how a run is that was started again

  // The address holds UTC; the form shows and takes the user's time.
  function useLocalTimes(form) {
    const inputs = [...form.querySelectorAll("input[type=datetime-local]")];
    for (const input of inputs) {
      const moment = new Date(`${input.value}Z`);
      if (!Number.isNaN(moment.getTime())) input.value = mlops.wallTime(moment);
    }
    form.querySelectorAll("[data-zone]").forEach((mark) => mark.remove());
    form.addEventListener("formdata", ({ formData }) => {
      for (const input of inputs) {
        if (input.value) formData.set(input.name, mlops.momentOf(input.value).toISOString());
      }
      for (const [name, value] of [...formData]) if (!value) formData.delete(name);
    });
  }

  // A running dispatch is refreshed often, the list now and then, and a finished dispatch never.
  function adaptPace(section) {
    section.addEventListener("refreshed", () => {
      const busy = section.querySelector("[data-busy]")?.dataset.busy === "yes";
      section.dataset.every = busy ? BUSY_EVERY_S : section.id === "list" ? IDLE_EVERY_S : 0;
    });
  }

  async function load(section) {
    const waiting = document.createElement("p");
    waiting.className = "muted";
    waiting.textContent = gettext("Reading rows…");
    section.setAttribute("aria-busy", "true");
    section.replaceChildren(waiting);
    try {
      const answer = await mlops.request(section.dataset.load, { headers: { Accept: "text/html" } });
      mlops.replace(section, await answer.text());
    } catch (error) {
      const notice = document.createElement("p");
      notice.className = "notice notice-error";
      mlops.explain(notice, error);
      section.replaceChildren(notice);
    } finally {
      section.removeAttribute("aria-busy");
    }
  }

  function offerRunAgain(place) {
    const ask = place.querySelector("[data-ask]");
    const sure = place.querySelector("#sure");
    const notice = document.getElementById("again-notice");
    const resume = place.querySelector("[data-resume]");
    const show = (open) => {
      const step = document.querySelector("#story [data-resume]")?.dataset.resume;
      resume.hidden = !step;
      resume.querySelector("[data-step]").textContent = step || "";
      sure.hidden = !open;
      ask.setAttribute("aria-expanded", String(open));
      (open ? place.querySelector("[data-yes]") : ask).focus();
    };
    ask.addEventListener("click", () => show(sure.hidden));
    place.querySelector("[data-no]").addEventListener("click", () => show(false));
    place.addEventListener("keydown", (event) => { if (event.key === "Escape" && !sure.hidden) show(false); });
    const clear = async (isOnlyFailed) => {
      show(false);
      ask.disabled = true;
      // Airflow's API with the user's cookie: Airflow checks their permissions and writes its audit log.
      const [dag, id] = [place.dataset.dag, place.dataset.run].map(encodeURIComponent);
      const run = mlops.airflow(`api/v2/dags/${dag}/dagRuns/${id}`);
      try {
        await mlops.request(`${run}/clear`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ dry_run: false, only_failed: isOnlyFailed }),
        });
        styled(notice, "notice-info").textContent = gettext(
          "Airflow is running it again. The steps below update as they start.",
        );
        follow(run);
      } catch (error) {
        mlops.explain(styled(notice, "notice-error"), error);
      } finally {
        ask.disabled = false;
      }
    };
    place.querySelector("[data-yes]").addEventListener("click", () => clear(false));
    resume.addEventListener("click", () => clear(true));
    place.hidden = false;
  }

  function styled(notice, look) {
    notice.className = `notice ${look}`;
    return notice;
  }

  // Airflow may need long to start the first step: refresh often until it has, or until the run is over.
  async function follow(run) {
    const story = document.getElementById("story");
    for (let failures = 0; failures < MOST_FAILURES;) {
      await new Promise((resume) => { setTimeout(resume, BUSY_EVERY_S * 1000); });
      if (document.hidden) continue;
      const state = await stateOf(run);
      await mlops.refresh(story);
      if (story.querySelector("[data-busy=yes]")) {
        document.dispatchEvent(new Event("visibilitychange")); // it is kept fresh again
        return;
      }
      if (["success", "failed"].includes(state)) return;
      failures = state ? 0 : failures + 1;
    }
  }

  async function stateOf(run) {
    try {
      return (await (await mlops.request(run)).json()).state;
    } catch {
      return null; // the page says so itself
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("form[data-times]").forEach(useLocalTimes);
    document.querySelectorAll("[data-refresh]").forEach(adaptPace);
    document.querySelectorAll("[data-load]").forEach(load);
    document.querySelectorAll("#again").forEach(offerRunAgain);
  });
})();
