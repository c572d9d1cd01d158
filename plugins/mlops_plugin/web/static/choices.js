// The first script of each page, and not deferred: the page is in the language and the time zone that Airflow's UI
// has chosen. The server cannot see where Airflow keeps the choices, so they are copied to cookies; the first page
// of all is loaded twice for it, and nothing is drawn before.
"use strict";

(() => {
  const LANGUAGE_KEY = "i18nextLng"; // of i18next-browser-languagedetector, which Airflow's UI uses
  const ZONE_KEY = "timezone";
  const TRIES = "mlops-choices-tries";
  const MOST_TRIES = 2;
  const YEAR_S = 31536000;
  const { root, languages, language, languageCookie, zone, zoneCookie, mayReload } = document.currentScript.dataset;
  const known = languages.split(" ");

  // As Airflow's UI takes it; a language that the pages do not have shows them in the first one.
  function chosenLanguage() {
    try {
      const stored = localStorage.getItem(LANGUAGE_KEY);
      return stored && (known.find((each) => each === stored.toLowerCase().split(/[-_]/)[0]) ?? known[0]);
    } catch {
      return null; // the browser keeps nothing for us
    }
  }

  const nameOf = (timeZone) => new Intl.DateTimeFormat("en", { timeZone }).resolvedOptions().timeZone;

  // The browser's own, if none is chosen, or nothing that is a time zone.
  function chosenZone() {
    try {
      return nameOf(JSON.parse(localStorage.getItem(ZONE_KEY)) || undefined);
    } catch {
      return nameOf(undefined);
    }
  }

  function keep(cookie, value) {
    const path = new URL(root, document.baseURI).pathname;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${cookie}=${value}; Path=${path}; Max-Age=${YEAR_S}; SameSite=Lax${secure}`;
  }

  function follow() {
    const [wantedLanguage, wantedZone] = [chosenLanguage() ?? language, chosenZone()];
    document.documentElement.dataset.zone = wantedZone; // page.js writes times by it
    try {
      if (wantedLanguage === language && wantedZone === zone) {
        sessionStorage.removeItem(TRIES);
        return;
      }
      if (wantedLanguage !== language) keep(languageCookie, wantedLanguage);
      if (wantedZone !== zone) keep(zoneCookie, wantedZone);
      // Twice: Airflow's page may have asked for this one before the cookies were there. No more: a browser or a
      // proxy that takes a cookie away, or a server that does not know the zone, must not make us load for ever. A
      // page that was posted is left as it is: to load it again would run the model again.
      const wanted = `${wantedLanguage} ${wantedZone}`;
      const [last, times] = JSON.parse(sessionStorage.getItem(TRIES) ?? "[]");
      const before = last === wanted ? times : 0;
      if (mayReload === undefined || before === MOST_TRIES) return;
      sessionStorage.setItem(TRIES, JSON.stringify([wanted, before + 1]));
    } catch {
      return;
    }
    document.documentElement.style.visibility = "hidden";
    location.reload();
  }

  follow();
  window.addEventListener("storage", ({ key }) => { if (key === LANGUAGE_KEY || key === ZONE_KEY) follow(); });
})();
