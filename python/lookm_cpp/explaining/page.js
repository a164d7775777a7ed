"use strict";
(async () => {
  const $ = (id) => document.getElementById(id);
  const packed = Uint8Array.from(atob($("data").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = JSON.parse(await new Response(stream).text());
  const state = { method: data.methods[0], layer: 0, look: "heat", cell: -1 };
  const boxes = new Map(); // cell -> elements that show it
  const percent = (share) => (share > 0 && share < 0.01 ? "<1 %" : `${Math.round(100 * share)} %`);
  const mean = (cells, shares) => cells.reduce((sum, cell) => sum + shares[cell], 0) / cells.length;
  const make = (name, parent, text = "") => {
    const element = document.createElement(name);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const draw = (name, parent, attributes = {}) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  };
  const shows = (element, cells) => {
    element.cells = cells;
    for (const cell of cells) boxes.set(cell, [...(boxes.get(cell) ?? []), element]);
  };

  // what is counted: one layer of a method, or all
  const isFull = (method) => method.layers.length === 0;
  const nPairs = (method, layer) =>
    layer ? method.layers[layer - 1].heads : method.layers.reduce((sum, one) => sum + one.heads, 0);
  const timesKept = (method, layer) => {
    if (layer) return method.layers[layer - 1].kept;
    const sum = new Array(data.cells).fill(0);
    for (const one of method.layers) one.kept.forEach((n, cell) => (sum[cell] += n));
    return sum;
  };
  const sharesOf = (method, layer) => {
    if (isFull(method)) return new Array(data.cells).fill(1);
    const n = nPairs(method, layer);
    return timesKept(method, layer).map((times) => times / n);
  };
  // [cell, into, times] of the layer; the most frequent ones of each cell
  const merges = (method, layer) => (isFull(method) ? [] : layer ? method.layers[layer - 1].merges : method.merges);

  const style = getComputedStyle(document.documentElement);
  const channels = (text) => text.match(/\w\w/g).map((pair) => parseInt(pair, 16));
  const colour = (share) => {
    if (share <= 0) return style.getPropertyValue("--page").trim();
    const scale = style.getPropertyValue("--scale").split(",").map((stop) => channels(stop));
    const at = share * (scale.length - 1), i = Math.min(Math.floor(at), scale.length - 2);
    return `rgb(${scale[i].map((low, c) => Math.round(low + (scale[i + 1][c] - low) * (at - i))).join(" ")})`;
  };
  const inkOn = (share) => {
    if (share <= 0) return style.getPropertyValue("--faint");
    const [r, g, b] = colour(share).match(/\d+/g).map(Number);
    return 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#14171c" : "#ffffff";
  };

  function build() {
    $("question").textContent = data.question;
    $("about").textContent = data.about;
    $("full-answer").textContent = data.answer;
    $("full-cells").textContent = `${data.cells} of ${data.cells} cells`;
    for (const method of data.methods) {
      const label = make("label", $("methods"));
      const input = make("input", label);
      Object.assign(input, { type: "radio", name: "method", value: method.name, checked: method === state.method });
      make("span", label, method.name);
    }
    data.views.forEach(buildView);
    $("images-section").hidden = data.views.length === 0;
    $("unread").hidden = !data.views.some((view) => view.pruned.length);
    buildTokens();
  }

  function buildView(view, number) {
    const figure = make("figure", $("views"));
    const [x0, y0, x1, y1] = view.frame;
    const tall = 1 / view.aspect;
    const svg = draw("svg", figure, {
      viewBox: `${x0 * 100} ${y0 * tall * 100} ${(x1 - x0) * 100} ${(y1 - y0) * tall * 100}`,
      tabindex: 0, role: "group", "aria-describedby": "keys",
      "aria-label": `Image ${view.image + 1}${view.title ? ", " + view.title : ""}`,
    });
    svg.id = `view-${number}`;
    draw("rect", svg, { class: "padding", x: x0 * 100, y: y0 * tall * 100, width: "100%", height: "100%" });
    if (view.picture) {
      draw("image", svg, { href: data.images[view.image], width: 100, height: 100 * tall, preserveAspectRatio: "none" });
    }
    for (const { cells, box } of view.boxes) {
      const rect = draw("rect", svg, {
        x: box[0] * 100, y: box[1] * tall * 100, width: (box[2] - box[0]) * 100, height: (box[3] - box[1]) * tall * 100,
      });
      shows(rect, cells);
    }
    for (const box of view.pruned) {
      draw("rect", svg, {
        class: "pruned", x: box[0] * 100, y: box[1] * tall * 100,
        width: (box[2] - box[0]) * 100, height: (box[3] - box[1]) * tall * 100,
      });
    }
    const apart = view.apart.length ? make("div", figure) : null;
    if (apart) {
      apart.className = "apart";
      apart.dataset.label = `${view.apart.length} ${view.apart.length > 1 ? "cells" : "cell"} without a place`;
      for (const cell of view.apart) shows(make("i", apart), [cell]);
    }
    const caption = make("figcaption", figure);
    make("span", caption, `Image ${view.image + 1}${view.title ? ", " + view.title : ""}`);
    view.share = make("span", caption);
    view.cells = [...new Set([...view.boxes.flatMap((box) => box.cells), ...view.apart])].sort((a, b) => a - b);
    svg.addEventListener("keydown", (event) => move(event, view));
  }

  function buildTokens() {
    let last = null;
    const cells = [];
    for (const [cell, text, image, evictable] of data.tokens) {
      if (image >= 0) {
        if (image === last) continue;
        last = image;
        const link = make("a", $("tokens"), `image ${image + 1}`);
        link.href = `#view-${data.views.findIndex((view) => view.image === image)}`;
        continue;
      }
      const span = make("span", $("tokens"), text);
      if (evictable) span.className = "evictable";
      shows(span, [cell]);
      cells.push(cell);
    }
    $("tokens").addEventListener("keydown", (event) => move(event, { cells, boxes: [] }));
    $("tokens").setAttribute("aria-label", `${cells.length} tokens`);
  }

  function paint() {
    const { method, layer } = state;
    const shares = sharesOf(method, layer);
    $("layer").max = method.layers.length;
    $("layer").disabled = isFull(method);
    const name = layer ? `layer ${method.layers[layer - 1].il}` : "all layers";
    $("layer-name").textContent = layer ? `${name} (${layer} of ${method.layers.length})` : name;
    $("layer").setAttribute("aria-valuetext", name);
    $("method-name").textContent = method.name;
    $("answer").textContent = method.answer;
    const parts = [["text", data.tokens.filter((one) => one[2] < 0 && !one[3])], ["images", data.tokens.filter((one) => one[2] >= 0)]]
      .filter(([, cells]) => cells.length)
      .map(([name, cells]) => `${percent(mean(cells.map((one) => one[0]), shares))} of ${name}`);
    const kept = `${method.kept} of ${data.cells} cells, ${percent(method.kept / data.cells)}: ${parts.join(", ")}`;
    $("cells").textContent = method.note || kept;
    $("views").classList.toggle("left", state.look === "left");
    for (const element of new Set([...boxes.values()].flat())) {
      const share = mean(element.cells, shares);
      if (element.tagName === "rect") {
        const heat = state.look === "heat";
        element.style.fill = heat ? colour(share) : style.getPropertyValue("--page");
        element.classList.toggle("kept", heat && share > 0);
        element.style.fillOpacity = heat ? (share > 0 ? data.over : style.getPropertyValue("--over-evicted")) : 0.94 * (1 - share);
      } else {
        element.style.background = share > 0 ? colour(share) : "transparent";
        element.style.color = inkOn(share);
      }
    }
    for (const view of data.views) view.share.textContent = `${percent(mean(view.cells, shares))} kept`;
    point();
  }

  function describe(cell) {
    const { method, layer } = state;
    const [, text, image, , column, row, tile] = data.tokens[cell];
    const where = image < 0 ? `“${text}”`
      : `image ${image + 1}, ${tile ? tile + ", " : ""}${column < 0 ? "a cell without a place" : `column ${column + 1}, row ${row + 1}`}`;
    if (isFull(method)) return `Cell ${cell}, ${where}: nothing was evicted.`;
    const n = nPairs(method, layer), times = timesKept(method, layer)[cell];
    const all = merges(method, layer);
    const from = new Set(all.filter((merge) => merge[1] === cell).map((merge) => merge[0])).size;
    const into = all.filter((merge) => merge[0] === cell);
    const parts = [`kept by ${times} of ${n} heads`];
    if (into.length) parts.push(`merged most often into cell ${into.map((one) => `${one[1]} (${one[2]} ×)`).join(", ")}`);
    else if (times < n) parts.push("dropped elsewhere");
    if (from) parts.push(`${from} evicted cells went into it`);
    return `Cell ${cell}, ${where}: ${parts.join("; ")}.`;
  }

  function mark(element, how) {
    element.classList.add(how);
    if (element.tagName !== "rect") return;
    const box = draw("rect", element.ownerSVGElement, { class: `mark ${how}` });
    for (const side of ["x", "y", "width", "height"]) box.setAttribute(side, element.getAttribute(side));
  }

  function point() {
    for (const old of document.querySelectorAll(".mark")) old.remove();
    for (const old of document.querySelectorAll(".here, .there")) old.classList.remove("here", "there");
    $("links").replaceChildren();
    const { cell, method, layer } = state;
    $("detail").textContent = cell < 0 ? "" : describe(cell);
    if (cell < 0) return;
    for (const element of boxes.get(cell) ?? []) mark(element, "here");
    const mine = merges(method, layer).filter(([from, into]) => from === cell || into === cell);
    mine.sort((a, b) => b[2] - a[2]); // hundreds may have gone into one cell: the most frequent lines will do
    for (const [from, into, times] of mine.slice(0, 40)) {
      link(from, into, times / nPairs(method, layer), from === cell ? into : from);
    }
  }

  const middle = (cell) => {
    const element = boxes.get(cell)?.[0];
    if (!element) return null;
    const box = element.getBoundingClientRect();
    return [box.left + box.width / 2 + scrollX, box.top + box.height / 2 + scrollY];
  };

  function link(from, into, share, other) {
    const a = middle(from), b = middle(into);
    if (!a || !b) return;
    for (const element of boxes.get(other)) mark(element, "there");
    const bend = Math.min(60, Math.hypot(b[0] - a[0], b[1] - a[1]) / 4);
    draw("path", $("links"), {
      d: `M${a} Q${(a[0] + b[0]) / 2} ${(a[1] + b[1]) / 2 - bend} ${b}`, "stroke-width": 1 + 3 * share,
    });
    draw("circle", $("links"), { cx: b[0], cy: b[1], r: 3.5 });
  }

  // to the next cell in this direction: of a grid by its places, else of the list
  function move(event, view) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") select(-1);
    if (!step) return;
    event.preventDefault();
    const at = view.cells.indexOf(state.cell);
    if (at < 0) return select(view.cells[0]);
    const here = view.boxes.find((box) => box.cells.length === 1 && box.cells[0] === state.cell);
    if (!here) return select(view.cells[Math.min(Math.max(at + step[0] + step[1], 0), view.cells.length - 1)]);
    const centre = ({ box }) => [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    const [x, y] = centre(here);
    let best = null, least = Infinity;
    for (const box of view.boxes) {
      const dx = centre(box)[0] - x, dy = centre(box)[1] - y;
      const along = dx * step[0] + dy * step[1], across = Math.abs(dx * step[1]) + Math.abs(dy * step[0]);
      if (along > 1e-9 && along + 4 * across < least) [best, least] = [box, along + 4 * across];
    }
    if (best) select(best.cells[0]);
  }

  function select(cell) {
    state.cell = cell;
    point();
  }

  $("methods").addEventListener("change", (event) => {
    state.method = data.methods.find((method) => method.name === event.target.value);
    state.layer = Math.min(state.layer, state.method.layers.length);
    $("layer").value = state.layer;
    paint();
  });
  $("layer").addEventListener("input", () => {
    state.layer = Number($("layer").value);
    paint();
  });
  $("looks").addEventListener("change", (event) => {
    state.look = event.target.value;
    paint();
  });
  document.addEventListener("pointerover", (event) => {
    if (event.target.cells) select(event.target.cells[0]);
    else if (!event.target.closest?.("figure, #tokens")) select(-1);
  });
  addEventListener("resize", point);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  build();
  $("layer").max = state.method.layers.length;
  $("layer").value = 0;
  paint();
  document.documentElement.dataset.ready = "";
})();
