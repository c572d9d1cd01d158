// What if, for models whose features are a picture: drawing on it sets the features, one for each pixel.
// With the keyboard: arrow keys move a mark, Space or Enter draws.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const { gettext } = mlops;
  const canvas = document.getElementById("drawing");
  if (!canvas) return;
  const form = document.getElementById("run");
  const fields = [...form.querySelectorAll("input[name^='set.']")];
  const mark = document.getElementById("drawing-mark");
  const said = document.getElementById("drawing-said");
  const { width, height } = canvas;
  const [least, greatest] = [Number(canvas.dataset.least), Number(canvas.dataset.greatest)];
  const context = canvas.getContext("2d");
  let place = { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  let last = null; // where the pointer was, while it is down

  function redraw() {
    const image = context.createImageData(width, height);
    fields.forEach((field, n) => {
      const value = field.value.trim() === "" ? least : Number(field.value);
      const grey = Math.round(255 * Math.max(0, Math.min(1, (value - least) / (greatest - least))));
      image.data.set([grey, grey, grey, 255], 4 * n);
    });
    context.putImageData(image, 0, 0);
  }

  const isErasing = () => form.elements.tool.value === "erase";

  function set(field, value) {
    if (Number(field.value) === value && field.value.trim() !== "") return;
    field.value = String(value);
    field.dispatchEvent(new Event("input", { bubbles: true })); // its slider follows, and the prediction
    form.elements.curve.value = ""; // many features change: there is no one curve
  }

  function paint({ x, y }) {
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    set(fields[y * width + x], isErasing() ? least : greatest);
  }

  // All pixels between two places of a quick pointer.
  function paintLine(from, to) {
    const steps = Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y), 1);
    for (let n = 0; n <= steps; n += 1) {
      paint({
        x: Math.round(from.x + ((to.x - from.x) * n) / steps), y: Math.round(from.y + ((to.y - from.y) * n) / steps),
      });
    }
    redraw();
  }

  function pixelAt(event) {
    const box = canvas.getBoundingClientRect();
    return {
      x: Math.floor(((event.clientX - box.left) / box.width) * width),
      y: Math.floor(((event.clientY - box.top) / box.height) * height),
    };
  }

  function showMark(isShown) {
    mark.hidden = !isShown;
    mark.style.left = `${(100 * place.x) / width}%`;
    mark.style.top = `${(100 * place.y) / height}%`;
    mark.style.width = `${100 / width}%`;
    mark.style.height = `${100 / height}%`;
    if (!isShown) return;
    said.textContent = gettext("column %(x)s, row %(y)s: %(value)s", {
      x: place.x + 1, y: place.y + 1, value: fields[place.y * width + place.x].value || "NULL",
    });
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    last = pixelAt(event);
    showMark(false);
    paintLine(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = pixelAt(event);
    paintLine(last, next);
    last = next;
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) showMark(true); });
  canvas.addEventListener("blur", () => showMark(false));
  canvas.addEventListener("keydown", (event) => {
    const [right, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [];
    if (right !== undefined) {
      place = {
        x: Math.max(0, Math.min(width - 1, place.x + right)), y: Math.max(0, Math.min(height - 1, place.y + down)),
      };
    } else if (event.key === " " || event.key === "Enter") {
      paintLine(place, place);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    showMark(true);
  });
  document.getElementById("drawing-clear").addEventListener("click", () => {
    for (const field of fields) set(field, least);
    redraw();
  });
  form.addEventListener("input", redraw);
  form.addEventListener("reset", () => setTimeout(redraw));
  redraw();
});
