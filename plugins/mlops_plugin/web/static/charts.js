// Charts that the server has drawn: a crosshair with exact values, the way to a dispatch by click, zoom by drag.
// With the keyboard: arrow keys, Enter, and Shift with arrow keys to zoom. Without this script the marks' own
// tips and the table below each chart say the same.
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const DRAGGED_PX = 8;
  const MINUTE_MS = 60000;
  const charts = new WeakSet();

  // Marks with the same place belong together: the classes of one dispatch, both halves of a bar.
  function pointsOf(svg) {
    const points = new Map();
    for (const mark of svg.querySelectorAll("circle, rect")) {
      const title = mark.querySelector(":scope > title");
      if (!title) continue;
      const x = mark.tagName === "circle" ? Number(mark.getAttribute("cx"))
        : Number(mark.getAttribute("x")) + Number(mark.getAttribute("width")) / 2;
      const key = x.toFixed(1);
      if (!points.has(key)) points.set(key, { x, words: [], link: mark.closest("a") });
      const at = mark.dataset.at ? `${mlops.toTheMinute(new Date(mark.dataset.at))}: ` : "";
      const words = `${at}${title.textContent}`;
      if (!points.get(key).words.includes(words)) points.get(key).words.push(words);
      title.remove(); // the browser's own tip would cover ours
    }
    return [...points.values()].sort((one, other) => one.x - other.x);
  }

  // The chart keeps its name, which the browser would show over our tip.
  function nameQuietly(svg) {
    const title = svg.querySelector(":scope > title");
    if (!title?.id) return;
    const name = document.createElementNS(SVG, "desc");
    name.id = title.id;
    name.textContent = title.textContent;
    title.replaceWith(name);
  }

  function enhance(svg) {
    if (charts.has(svg)) return;
    const points = pointsOf(svg);
    if (!points.length) return;
    charts.add(svg);
    nameQuietly(svg);
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    const canZoom = svg.dataset.start !== undefined && document.querySelector("form[data-times]") !== null;
    const line = shape("line", { class: "crosshair", y1: 0, y2: height, visibility: "hidden" });
    const range = shape("rect", { class: "range", y: 0, height, visibility: "hidden" });
    svg.append(range, line);
    const frame = document.createElement("div");
    const tip = Object.assign(document.createElement("p"), { className: "chart-tip", hidden: true });
    tip.setAttribute("role", "status");
    frame.className = "chart-frame";
    svg.replaceWith(frame);
    frame.append(svg, tip);
    svg.setAttribute("tabindex", "0");
    let at = -1; // the point that is shown
    let from = -1; // the point where the keyboard began to choose a range
    let pressed = null; // where the pointer went down
    let wasDragged = false;

    function shape(name, attributes) {
      const made = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    }

    const placeOf = (event) => {
      const box = svg.getBoundingClientRect();
      return ((event.clientX - box.left) / box.width) * width;
    };
    const nearest = (x) => points.reduce(
      (best, point, n) => (Math.abs(point.x - x) < Math.abs(points[best].x - x) ? n : best), 0,
    );

    function show(number) {
      at = Math.max(0, Math.min(points.length - 1, number));
      const { x, words } = points[at];
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      line.setAttribute("visibility", "visible");
      tip.replaceChildren(...words.map((each) => Object.assign(document.createElement("span"), { textContent: each })));
      tip.hidden = false;
      const place = (x / width) * frame.clientWidth;
      tip.style.left = `${Math.max(0, Math.min(place - tip.offsetWidth / 2, frame.clientWidth - tip.offsetWidth))}px`;
    }

    function hide() {
      at = from = -1;
      pressed = null;
      tip.hidden = true;
      for (const mark of [line, range]) mark.setAttribute("visibility", "hidden");
    }

    function choose(one, other) {
      const [left, right] = [one, other].sort((a, b) => a - b);
      range.setAttribute("x", left);
      range.setAttribute("width", Math.max(right - left, 1));
      range.setAttribute("visibility", "visible");
    }

    function open({ link }) {
      if (link) location.assign(link.getAttribute("href"));
    }

    // The times between two places, to whole minutes, as the page's filter: a link that can be shared.
    function zoom(one, other) {
      const [left, right] = [one, other].sort((a, b) => a - b);
      const { start, end, left: first, right: last } = svg.dataset;
      const moment = (x) => {
        const share = Math.max(0, Math.min(1, (x - first) / (last - first)));
        return Date.parse(start) + share * (Date.parse(end) - Date.parse(start));
      };
      const url = new URL(location.href);
      for (const name of ["before", "after", "skip"]) url.searchParams.delete(name);
      const since = Math.floor(moment(left) / MINUTE_MS) * MINUTE_MS;
      url.searchParams.set("since", new Date(since).toISOString());
      const until = Math.floor(moment(right) / MINUTE_MS + 1) * MINUTE_MS;
      url.searchParams.set("until", new Date(until).toISOString());
      location.assign(url);
    }

    svg.addEventListener("pointermove", (event) => {
      show(nearest(placeOf(event)));
      if (pressed === null || !canZoom) return;
      wasDragged = wasDragged || Math.abs(event.clientX - pressed.clientX) > DRAGGED_PX;
      if (wasDragged) choose(pressed.x, placeOf(event));
    });
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.ctrlKey || event.metaKey) return; // a link in a new tab
      wasDragged = false;
      pressed = { x: placeOf(event), clientX: event.clientX };
      if (canZoom) svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointerup", (event) => {
      const began = pressed;
      pressed = null;
      if (!began || !canZoom) return;
      if (wasDragged) zoom(began.x, placeOf(event));
      else open(points[nearest(placeOf(event))]); // the pointer was captured: no mark gets the click
    });
    svg.addEventListener("pointerleave", () => { if (pressed === null && svg !== document.activeElement) hide(); });
    svg.addEventListener("pointercancel", hide);
    svg.addEventListener("dragstart", (event) => event.preventDefault());
    svg.addEventListener("focus", () => { if (at < 0 && svg.matches(":focus-visible")) show(points.length - 1); });
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: points.length - 1 }[event.key];
      if (to !== undefined) {
        if (event.shiftKey && canZoom && from < 0) from = at;
        if (!event.shiftKey) from = -1;
        show(to);
        if (from >= 0) choose(points[from].x, points[at].x);
        else range.setAttribute("visibility", "hidden");
      } else if (event.key === "Enter" && at >= 0) {
        if (from >= 0) zoom(points[from].x, points[at].x);
        else open(points[at]);
      } else if (event.key === "Escape") {
        hide();
      } else {
        return;
      }
      event.preventDefault();
      event.stopPropagation();
    });
  }

  const enhanceAll = (within) => within.querySelectorAll("svg[data-start], svg[data-crosshair]").forEach(enhance);
  document.addEventListener("DOMContentLoaded", () => enhanceAll(document));
  document.addEventListener("refreshed", ({ target }) => enhanceAll(target));
})();
