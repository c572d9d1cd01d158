// For every page: Airflow's theme, times in the time zone chosen in Airflow, links into Airflow, fragments that refresh.
"use strict";

(() => {
  // The page is in an iframe of Airflow (same origin). On its own, it follows the browser's theme.
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
    const chosen = ["dark", "light"].includes(stored) ? stored : null; // the host also stores "system"
    const dark = source ? source.classList.contains("dark")
      : chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
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
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", followTheme);
  if (host) {
    new MutationObserver(followTheme).observe(host.document.documentElement, {
      attributes: true, attributeFilter: ["class"],
    });
  }

  // The texts of the scripts in the page's language, by their English. English ones stand in the scripts:
  // languages/extraction.py finds them by these two names.
  const words = JSON.parse(document.body.dataset.words);
  const plural = new Intl.PluralRules(document.documentElement.lang);
  const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => values[name]);
  const gettext = (text, values = {}) => fill(words[text] ?? text, values);
  function ngettext(one, many, number) {
    const [single, several] = words[one] ?? [one, many];
    return fill(plural.select(number) === "one" ? single : several, { number });
  }

  // The time zone that the user has chosen in Airflow, or the browser's (choices.js).
  const { zone } = document.documentElement.dataset;

  // As Airflow writes it: 2026-03-01 14:30:00, which is Sweden's way, too.
  const inZone = (timeStyle) => new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle });
  const [exact, toTheMinute] = [inZone("medium"), inZone("short")];

  // What a clock in the zone shows, as a form's field holds it, and the moment when it shows that.
  const wallTime = (moment) => toTheMinute.format(moment).replace(" ", "T");
  function momentOf(wall) {
    const asked = Date.parse(`${wall}Z`);
    let moment = asked;
    // Twice: the first guess may lie on the other side of a change of the clocks.
    for (let n = 0; n < 2; n += 1) moment += asked - Date.parse(`${exact.format(moment).replace(" ", "T")}Z`);
    return new Date(moment);
  }

  const UNITS = [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]];

  // As formatting.py writes it: 40 s, 2 h 5 min, and from ten units on one unit.
  function inWords(seconds) {
    const whole = Math.floor(Math.abs(seconds));
    const [unit, size, lesser, smaller] = UNITS.find(([, each]) => whole >= each) || ["s", 1, "", 1];
    const count = Math.floor(whole / size);
    const rest = Math.floor((whole % size) / smaller);
    const time = rest && count < 10 ? `${count} ${unit} ${rest} ${lesser}` : `${count} ${unit}`;
    return seconds >= 0 ? gettext("%(time)s ago", { time }) : gettext("in %(time)s", { time });
  }

  function showTimes(within) {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      if (time.dataset.ago) {
        time.title = exact.format(moment);
        time.dataset.shown = performance.now();
      } else {
        time.textContent = ("minute" in time.dataset ? toTheMinute : exact).format(moment);
        time.title = time.dateTime;
      }
    }
  }

  // By the server's clock: its age when it was shown, and what has passed since then.
  function showAges() {
    for (const time of document.querySelectorAll("time[data-ago][data-shown]")) {
      time.textContent = inWords(Number(time.dataset.ago) + (performance.now() - Number(time.dataset.shown)) / 1000);
    }
  }

  // Said to people who do not see what changed beside a button.
  function say(words) {
    let place = document.getElementById("said");
    if (!place) {
      place = Object.assign(document.createElement("p"), { id: "said", className: "visually-hidden" });
      place.setAttribute("role", "status");
      document.body.append(place);
    }
    place.textContent = words;
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    const text = source.textContent.trim();
    button.dataset.words ||= button.textContent;
    const show = (words) => { button.textContent = words; say(words); };
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without HTTPS there is no clipboard: the old way, from a selection.
      getSelection().selectAllChildren(source);
      if (!document.execCommand("copy")) {
        show(gettext("Selected: press Ctrl+C"));
        return;
      }
    }
    show(gettext("Copied"));
    setTimeout(() => { button.textContent = button.dataset.words; say(""); }, 2000);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (button) copy(button);
  });
  setInterval(showAges, 10000);

  // An Airflow page opens in the host: the iframe's sandbox allows no _top link.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-airflow-path]");
    if (!link || !host || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    host.history.pushState(null, "", link.href);
    host.dispatchEvent(new host.PopStateEvent("popstate", { state: null }));
  });

  const SESSION_ENDED = "SessionEnded";

  // Airflow's login, which leads back here. Opened outside of the iframe, whose sandbox allows no _top link.
  function signIn() {
    const page = host || window;
    const way = page.document.createElement("a");
    const login = new URL(`${document.body.dataset.airflow}api/v2/auth/login`, document.baseURI);
    login.searchParams.set("next", page.location.href);
    way.href = login.href;
    page.document.body.append(way);
    way.click();
    way.remove();
  }

  // Shows an error in an element, with a button to sign in if the session has ended.
  function explain(place, error) {
    place.replaceChildren(error.message);
    if (error.name !== SESSION_ENDED) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = gettext("Sign in");
    button.addEventListener("click", signIn);
    place.append(" ", button);
  }

  function showLost(error) {
    const lost = document.getElementById("lost");
    lost.hidden = !error;
    if (!error) lost.replaceChildren();
    // Only once: a refresh that fails again must not take the focus from the button.
    else if (!lost.textContent.startsWith(error.message)) explain(lost, error);
  }

  async function problem(response) {
    const body = await response.json().catch(() => null);
    const detail = body && (typeof body.detail === "string" ? body.detail : JSON.stringify(body.detail));
    const status = `${response.status} ${response.statusText}`;
    const error = new Error(detail || gettext("The server answered %(status)s", { status }));
    // Airflow answers 401 if a session has expired, and this 403 if it was revoked.
    if (response.status === 401 || (response.status === 403 && detail === "Invalid JWT token")) {
      error.name = SESSION_ENDED;
      error.message = gettext("Your session has ended.");
    }
    return error;
  }

  // A same-origin request with the user's cookie; throws an Error that can be shown.
  async function request(url, options = {}) {
    let response;
    try {
      response = await fetch(url, { credentials: "same-origin", ...options });
    } catch {
      throw new Error(gettext("The server cannot be reached. Retrying."));
    }
    if (!response.ok) throw await problem(response);
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

  // What is replaced between a press and its release would not get the click.
  const PRESSED_AT_MOST_MS = 2000; // a release may happen where nobody hears of it
  let pressed = null;
  function press() {
    let release;
    const mine = new Promise((resume) => { release = resume; }).then(() => { if (pressed === mine) pressed = null; });
    pressed = mine;
    setTimeout(release, PRESSED_AT_MOST_MS);
    for (const end of ["pointerup", "pointercancel", "keyup"]) {
      document.addEventListener(end, () => setTimeout(release), { once: true, capture: true }); // after the click
    }
  }
  document.addEventListener("pointerdown", press, true);
  document.addEventListener("keydown", ({ key, repeat }) => { if (key === " " && !repeat) press(); }, true);

  let questions = 0;
  const shown = new WeakMap(); // the question whose answer a section shows

  async function refresh(section) {
    const asked = section.dataset.refresh;
    const number = questions += 1;
    try {
      const response = await request(asked, { headers: { Accept: "text/html" } });
      const html = await response.text();
      while (pressed) await pressed;
      // An answer that was overtaken by that of a later question tells of the past, and one to another question
      // is not asked for any more.
      if (asked === section.dataset.refresh && number > (shown.get(section) ?? 0)) {
        shown.set(section, number);
        replace(section, html);
      }
      showLost(null);
      return true;
    } catch (error) {
      showLost(error);
      return false;
    }
  }

  // <section data-refresh="monitor/fragment" data-every="10">: fetched again every 10 s while the tab is visible.
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
    gettext, ngettext, request, refresh, replace, explain, wallTime, momentOf,
    toTheMinute: (moment) => toTheMinute.format(moment),
    url: (path) => document.body.dataset.root + path,
    airflow: (path) => document.body.dataset.airflow + path,
  };
})();
