// The first script of each page, and not deferred: the page is in the language that Airflow's UI has chosen. The
// server cannot see where Airflow keeps the choice, so it is copied to a cookie; the first page of all is loaded
// twice for it, and nothing is drawn before.
"use strict";

(() => {
  const KEY = "i18nextLng"; // of i18next-browser-languagedetector, which Airflow's UI uses
  const TRIED = "mlops-language-tried";
  const YEAR_S = 31536000;
  const { root, cookie, languages, language, mayReload } = document.currentScript.dataset;
  const known = languages.split(" ");

  // As Airflow's UI takes it; a language that the pages do not have shows them in the first one.
  function chosen() {
    try {
      const stored = localStorage.getItem(KEY);
      return stored && (known.find((each) => each === stored.toLowerCase().split(/[-_]/)[0]) ?? known[0]);
    } catch {
      return null; // the browser keeps nothing for us
    }
  }

  function follow() {
    const wanted = chosen();
    if (!wanted) return;
    try {
      if (wanted === language) {
        sessionStorage.removeItem(TRIED);
        return;
      }
      const path = new URL(root, document.baseURI).pathname;
      const secure = location.protocol === "https:" ? "; Secure" : "";
      document.cookie = `${cookie}=${wanted}; Path=${path}; Max-Age=${YEAR_S}; SameSite=Lax${secure}`;
      // Once: a browser or a proxy that takes the cookie away must not make us load for ever. A page that was
      // posted is left as it is: to load it again would run the model again.
      if (mayReload === undefined || sessionStorage.getItem(TRIED) === wanted) return;
      sessionStorage.setItem(TRIED, wanted);
    } catch {
      return;
    }
    document.documentElement.style.visibility = "hidden";
    location.reload();
  }

  follow();
  window.addEventListener("storage", ({ key }) => { if (key === KEY) follow(); });
})();
