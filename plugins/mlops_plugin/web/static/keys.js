// Keyboard shortcuts, the same on every page; "?" shows those that do something here.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const { gettext } = mlops;
  const OFF_KEY = "mlops-single-keys-off"; // people who dictate text must be able to switch single keys off
  const SECOND_KEY_MS = 1500;
  const TEXT = "input:not([type=checkbox], [type=range]), select, textarea";

  const search = document.querySelector("main input[type=search]");
  const goTo = (path) => () => location.assign(mlops.url(path));
  const page = (rel) => () => document.querySelector(`main a[rel=${rel}]`)?.click();
  const refresh = () => document.querySelectorAll("[data-refresh]").forEach(mlops.refresh);
  const has = (selector) => document.querySelector(selector) !== null;
  const SHORTCUTS = [
    { keys: "?", does: gettext("Show these shortcuts"), run: toggle, is: () => true },
    { keys: "/", does: gettext("Search"), run: () => search.focus(), is: () => search !== null },
    { keys: "r", does: gettext("Refresh now"), run: refresh, is: () => has("[data-refresh]") },
    { keys: "n", does: gettext("Next page of the list"), run: page("next"), is: () => has("main a[rel=next]") },
    { keys: "p", does: gettext("Previous page of the list"), run: page("prev"), is: () => has("main a[rel=prev]") },
    { keys: "← → Enter", does: gettext("Read a chart that has the focus, open the dispatch"), is: () => has("svg[data-start]") },
    { keys: "← →", does: gettext("Read a chart that has the focus"), is: () => has("svg[data-crosshair]") },
    { keys: "g s", does: gettext("Go to the Showroom"), run: goTo("showroom"), is: () => true },
    { keys: "g d", does: gettext("Go to Dispatches"), run: goTo("dispatches"), is: () => true },
    { keys: "g m", does: gettext("Go to the Monitor"), run: goTo("monitor"), is: () => true },
  ];

  const isOff = () => { try { return localStorage.getItem(OFF_KEY) === "yes"; } catch { return false; } };
  const dialog = makeDialog();
  let first = "";
  let timer = 0;

  function makeDialog() {
    const made = document.createElement("dialog");
    made.className = "shortcuts";
    made.setAttribute("aria-labelledby", "shortcuts-title");
    made.innerHTML = `<form method="dialog"><h2 id="shortcuts-title"></h2><dl></dl>
      <label><input type="checkbox"> <span></span></label>
      <p><button></button></p></form>`;
    made.querySelector("h2").textContent = gettext("Keyboard shortcuts");
    made.querySelector("span").textContent = gettext("Use single keys on all pages");
    made.querySelector("button").textContent = gettext("Close");
    made.querySelector("input").addEventListener("change", ({ target }) => {
      try { localStorage.setItem(OFF_KEY, target.checked ? "no" : "yes"); } catch { target.checked = true; }
    });
    document.body.append(made);
    return made;
  }

  function toggle() {
    if (dialog.open) return dialog.close();
    const lines = SHORTCUTS.filter(({ is }) => is()).map(({ keys, does }) => {
      const line = document.createElement("div");
      const [name, words] = [document.createElement("dt"), document.createElement("dd")];
      for (const key of keys.split(" ")) {
        name.append(Object.assign(document.createElement("kbd"), { textContent: key }), " ");
      }
      words.textContent = does;
      line.append(name, words);
      return line;
    });
    dialog.querySelector("dl").replaceChildren(...lines);
    dialog.querySelector("input").checked = !isOff();
    return dialog.showModal();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TEXT)) return;
    if (isOff() || (dialog.open && event.key !== "?")) return;
    const keys = first ? `${first} ${event.key}` : event.key;
    const found = SHORTCUTS.find((each) => each.keys === keys && each.is());
    clearTimeout(timer);
    first = "";
    if (found) {
      event.preventDefault();
      found.run();
    } else if (SHORTCUTS.some((each) => each.keys.startsWith(`${keys} `))) {
      first = keys;
      timer = setTimeout(() => { first = ""; }, SECOND_KEY_MS);
    }
  });
  document.querySelectorAll("[data-shortcuts]").forEach((button) => button.addEventListener("click", toggle));
});
