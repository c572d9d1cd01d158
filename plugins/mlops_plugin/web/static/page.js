// What every page needs: the host's theme, times in the user's zone, links into Airflow, fragments that refresh.
"use strict";

(() => {
  // The page stands in an iframe of Airflow, same origin; on its own, it follows the browser.
  const host = (() => {
    try {
      return window.parent !== window && window.parent.document ? window.parent : null;
    } catch {
      return null;
    }
  })();

  const TOKENS = {
    "--bg": "bg", "--bg-subtle": "bg-subtle", "--bg-muted": "bg-muted", "--fg": "fg", "--fg-muted": "fg-muted",
    "--border": "border",
  };

  function followTheme() {
    const root = document.documentElement;
    const source = host && host.document.documentElement;
    const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
    const dark = source ? source.classList.contains("dark")
      : stored ? stored === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.classList.toggle("dark", dark);
    if (!source) return;
    const style = host.getComputedStyle(source);
    for (const [ours, theirs] of Object.entries(TOKENS)) {
      const value = style.getPropertyValue(`--chakra-colors-${theirs}`).trim();
      if (value) root.style.setProperty(ours, value);
    }
    const font = style.getPropertyValue("--chakra-fonts-body").trim();
    if (font) root.style.setProperty("--font", font);
  }

  followTheme();
  if (host) {
    new MutationObserver(followTheme).observe(host.document.documentElement, {
      attributes: true, attributeFilter: ["class"],
    });
  }

  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

  function showTimes(within) {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      if (!Number.isNaN(moment.getTime())) {
        time.textContent = exact.format(moment);
        time.title = time.dateTime;
      }
    }
  }

  // An Airflow page opens in the host: the iframe's sandbox allows no _top link.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-airflow-path]");
    if (!link || !host || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    host.history.pushState(null, "", link.href);
    host.dispatchEvent(new host.PopStateEvent("popstate", { state: null }));
  });

  function say(text) {
    const lost = document.getElementById("lost");
    lost.textContent = text;
    lost.hidden = !text;
  }

  async function problem(response) {
    if (response.status === 401) return "Your session has ended. Sign in to Airflow again, then reload this page.";
    const body = await response.json().catch(() => null);
    const detail = body && (typeof body.detail === "string" ? body.detail : JSON.stringify(body.detail));
    return detail || `The server answered ${response.status} ${response.statusText}`;
  }

  // Same-origin requests with the user's own cookie; throws an Error that can be shown.
  async function request(url, options = {}) {
    let response;
    try {
      response = await fetch(url, { credentials: "same-origin", ...options });
    } catch {
      throw new Error("The server cannot be reached. Trying again.");
    }
    if (!response.ok) throw new Error(await problem(response));
    return response;
  }

  function replace(section, html) {
    const focused = section.contains(document.activeElement) ? document.activeElement.id : "";
    const [x, y] = [window.scrollX, window.scrollY];
    section.innerHTML = html;
    showTimes(section);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    window.scrollTo(x, y);
    section.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
  }

  async function refresh(section) {
    try {
      const response = await request(section.dataset.refresh, { headers: { Accept: "text/html" } });
      replace(section, await response.text());
      say("");
      return true;
    } catch (error) {
      say(error.message);
      return false;
    }
  }

  // <section data-refresh="monitor/fragment" data-every="10">: fetched anew every 10 s while the tab is seen.
  function keepFresh(section) {
    let timer = 0;
    const again = () => {
      clearTimeout(timer);
      const every = Number(section.dataset.every);
      if (every > 0) timer = setTimeout(tick, every * 1000);
    };
    const tick = async () => {
      if (!document.hidden) await refresh(section);
      again();
    };
    document.addEventListener("visibilitychange", () => { if (!document.hidden) tick(); });
    again();
  }

  document.addEventListener("DOMContentLoaded", () => {
    showTimes(document);
    document.querySelectorAll("[data-refresh]").forEach(keepFresh);
  });

  window.mlops = {
    request, refresh, replace, say, showTimes,
    url: (path) => document.body.dataset.root + path,
    airflow: (path) => document.body.dataset.airflow + path,
  };
})();
