// The page of a study: draws figures when they come into view, lists jobs, and shows one of them as a card.
"use strict";
const STEP = 100; // rows of the list added at a time
const LARGE = 400_000; // characters of a figure above which a canvas is faster than an SVG
const find = (selector, inside = document) => inside.querySelector(selector);

function make(tag, content = "", kind = "") {
  const element = document.createElement(tag);
  element.append(...[content].flat());
  if (kind) element.className = kind;
  return element;
}

// Numbers for reading; null means not measured.
const MISSING = "not measured";
const orMissing = (write) => (value) => (value == null ? MISSING : write(value));
const digits = (value) => String(Number(value.toPrecision(3)));
const short = orMissing((value) => {
  const units = ["", "k", "M", "G", "T"];
  while (value >= 999.5 && units.length > 1) { value /= 1000; units.shift(); }
  return digits(value) + units[0];
});
const bytes = orMissing((value) => `${short(value)}B`);
const fixed = (places) => orMissing((value) => value.toFixed(places));
const percent = orMissing((value) => (100 * value).toFixed(2));
const duration = orMissing((seconds) => {
  const [unit, scale] = seconds >= 1 ? ["s", 1] : seconds >= 1e-3 ? ["ms", 1e3] : ["µs", 1e6];
  return `${digits(seconds * scale)} ${unit}`;
});
const quartiles = orMissing(([middle, low, high]) => `${duration(middle)} (${duration(low)} to ${duration(high)})`);
const ratio = (now, before) => (now == null || !before ? null : now / before);

// The jobs. Values that jobs share are stored once, and looked up by number.
const data = JSON.parse(find("#data").textContent);
const named = (names, row) => Object.fromEntries(names.map((name, i) => [name, row[i]]));
const costs = data.costs.map((row) => named(data.measures, row));
const jobs = data.jobs.map((row) => {
  const job = named(data.fields, row);
  job.dense = costs[job.dense];
  job.pruned = costs[job.pruned];
  job.left = ratio(job.pruned.nonzero, job.dense.params);
  job.macs = ratio(job.pruned.macs, job.dense.macs);
  job.method = data.texts[job.method];
  job.words = [job.job, job.method, ...job.arguments.map((i) => data.texts[i])].join(" ").toLowerCase();
  return job;
});
const byName = new Map(jobs.map((job) => [job.job, job]));

// The list.
const COLUMNS = [
  ["job", (job) => job.label],
  ["rate", (job) => job.rate, fixed(3)],
  ["seed", (job) => job.seed, String],
  ["test accuracy (%)", (job) => job.accuracy, percent],
  ["sparsity attained", (job) => job.attained, fixed(3)],
  ["score", (job) => job.score, fixed(3)],
  ["parameters left (%)", (job) => job.left, percent],
  ["MACs left (%)", (job) => job.macs, percent],
  ["seconds", (job) => job.seconds, fixed(1)],
];
const natural = new Intl.Collator("en", { numeric: true }).compare;
let shown = jobs, count = STEP, sorted = { column: null, descending: false };

function filterAndSort() {
  const words = find("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
  shown = jobs.filter((job) => words.every((word) => job.words.includes(word)));
  if (sorted.column !== null) {
    const key = COLUMNS[sorted.column][1], sign = sorted.descending ? -1 : 1;
    const order = sorted.column ? (a, b) => a - b : natural;
    const last = (value) => value == null; // at the end in both directions
    shown.sort((a, b) => last(key(a)) - last(key(b)) || sign * order(key(a), key(b)));
  }
  count = STEP;
  show();
}

function show() {
  const rows = shown.slice(0, count).map((job) => {
    const opener = make("button", job.label);
    opener.title = job.job;
    opener.type = "button";
    opener.onclick = () => open(job.job);
    const cells = COLUMNS.slice(1).map(([, key, write]) => make("td", write(key(job)), "number"));
    return make("tr", [make("td", opener), ...cells]);
  });
  find("#list tbody").replaceChildren(...rows);
  find("#more").hidden = shown.length <= count;
  const some = shown.length > count ? `, the first ${count} shown` : "";
  find("#count").textContent = `${shown.length} of ${jobs.length} jobs${some}`;
}

find("#list thead").append(make("tr", COLUMNS.map(([name], column) => {
  const button = make("button", name), head = make("th", button, column ? "number" : "");
  button.type = "button";
  head.scope = "col";
  button.onclick = () => {
    sorted = { column, descending: sorted.column === column && !sorted.descending };
    for (const other of find("#list thead tr").children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
    filterAndSort();
  };
  return head;
})));
find("#shared").textContent = data.shared && `Every job: ${data.shared}`;
find("#search").oninput = filterAndSort;
find("#more").onclick = () => { count += STEP; show(); };

// The card of a job.
function sparsity(cost, dense) {
  return dense.params ? 1 - cost.nonzero / dense.params : null;
}
const MEASURES = [
  ["parameters", (cost) => cost.params, short],
  ["non-zeros", (cost) => cost.nonzero, short],
  ["sparsity (zero or removed, of the dense parameters)", sparsity, fixed(3)],
  ["MACs", (cost) => cost.macs, short],
  ["BOPs", (cost) => cost.bops, short],
  ["bytes in memory", (cost) => cost.memory, bytes],
  ["bytes on disk", (cost) => cost.file, bytes],
  ["latency, batch 1: median (quartiles)", (cost) => cost.latency1, quartiles],
  ["latency, batch 128: median (quartiles)", (cost) => cost.latency128, quartiles],
];
const FACTS = {
  "folder": (job) => job.job,
  "method": (job) => job.method,
  "test accuracy": (job) => `${percent(job.accuracy)} %`,
  "sparsity attained": (job) => `${fixed(3)(job.attained)} of the prunable units`,
  "score": (job) => job.score == null ? MISSING : `${fixed(3)(job.score)} = (accuracy + zeros of the prunable weights) / 2`,
  "seconds": (job) => fixed(1)(job.seconds),
  "seconds per epoch": (job) => fixed(2)(job.epochSeconds),
  "peak memory of training": (job) => `${bytes(job.peak)} (allocated on a GPU; else the growth of the process)`,
  "latency on": (job) => data.texts[job.timed] || MISSING,
  "device": (job) => data.texts[job.device],
  "versions": (job) => data.texts[job.versions] || "not recorded",
};

function open(name) {
  const job = byName.get(name), card = find("#card");
  if (!job) return;
  const given = job.study == null ? job.arguments : [...job.arguments, job.study];
  find("#card-name").textContent = job.label;
  find("#command").textContent = ["python -m train", ...given.map((i) => data.quoted[i] ?? data.texts[i])].join(" ");
  find("#copy").textContent = "Copy";
  const facts = Object.entries(FACTS).flatMap(([key, fact]) => [make("dt", key), make("dd", fact(job))]);
  find("dl", card).replaceChildren(...facts);
  find("tbody", card).replaceChildren(...MEASURES.map(([measure, value, write]) => {
    const [before, after] = [job.dense, job.pruned].map((cost) => value(cost, job.dense));
    const share = measure.startsWith("sparsity") ? null : ratio(...[after, before].map((x) => (Array.isArray(x) ? x[0] : x)));
    const cells = [write(before), write(after), share == null ? "" : digits(share)];
    return make("tr", [make("td", measure), ...cells.map((cell) => make("td", cell, "number"))]);
  }));
  find("#overrides").replaceChildren(...job.arguments.map((i) => make("li", make("code", data.texts[i]))));
  find("#files").replaceChildren(...data.texts[job.files].split("\n").map((name) => {
    const link = make("a", name);
    link.href = `${encodeURIComponent(job.job)}/${name.split("/").map(encodeURIComponent).join("/")}`; // beside the page
    return make("li", link);
  }));
  card.showModal();
  card.scrollTop = 0;
}

// A page opened from a file may have no clipboard: then the text is selected, for the keyboard to copy.
find("#copy").onclick = async () => {
  const command = find("#command");
  const copied = await navigator.clipboard?.writeText(command.textContent).then(() => true, () => false);
  if (!copied) getSelection().selectAllChildren(command);
  find("#copy").textContent = copied || document.execCommand("copy") ? "Copied" : "Selected: copy it with the keyboard";
};
find("#card").onclick = (event) => { if (event.target === find("#card")) find("#card").close(); }; // on the backdrop

// Figures, each drawn when it comes near the viewport.
function narrow(spec, width) {
  const config = spec.config ?? {};
  const legend = { ...config.legend, orient: "bottom", columns: 1, labelLimit: width - 60, gradientLength: width / 2 };
  return { ...spec, config: { ...config, legend, axisY: { ...config.axisY, labelLimit: width / 3 } } };
}

// The theme: that of the system until the button is used; on paper always light.
const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const isDark = () => !printing && (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
const INK = { labelColor: "#e0e0e0", titleColor: "#e0e0e0", domainColor: "#8a8a8a", tickColor: "#8a8a8a" };
const themed = () => ({ background: "transparent", ...(isDark() && { axis: INK, legend: INK, text: { fill: "#e0e0e0" } }) });

// Colours of lines and marks; cells of heat maps, whose colours are interpolated, keep theirs.
function darkened(node) {
  if (typeof node === "string") return DARK[node] ?? node;
  if (Array.isArray(node)) return node.map(darkened);
  if (!node || typeof node !== "object" || node.interpolate) return node;
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, key === "datasets" ? value : darkened(value)]));
}

function retheme() {
  find("#theme").textContent = isDark() ? "Light theme" : "Dark theme";
  for (const figure of document.querySelectorAll("figure")) {
    delete find(".plot", figure).dataset.state;
    viewport.observe(figure); // draws what is in view, and the rest when it comes
  }
}

async function draw(figure) {
  const plot = find(".plot", figure), source = find("script", figure);
  viewport.unobserve(figure);
  if (plot.dataset.state) return;
  plot.dataset.state = "drawing";
  try {
    const renderer = source.textContent.length > LARGE ? "canvas" : "svg";
    const dark = isDark(), options = { actions: false, renderer, config: themed() };
    const given = JSON.parse(source.textContent), spec = dark ? darkened(given) : given;
    let { view, finalize } = await vegaEmbed(plot, spec, options);
    if (spec.width === "container" && view.width() < 0.6 * plot.clientWidth) { // axis and legend leave the plot too little
      finalize();
      ({ view } = await vegaEmbed(plot, narrow(spec, plot.clientWidth), options));
    }
    view.addEventListener("click", (event, item) => {
      if (item?.mark && !["line", "area", "trail"].includes(item.mark.marktype)) open(item.datum?.job);
    });
    if (dark !== isDark()) { // the theme changed meanwhile
      delete plot.dataset.state;
      return draw(figure);
    }
    plot.dataset.state = "drawn";
  } catch (error) {
    plot.dataset.state = "failed";
    plot.textContent = `Not drawn: ${error.message}`;
  }
  plot.style.minHeight = "";
}
const viewport = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "300px" },
);
document.querySelectorAll("figure").forEach((figure) => viewport.observe(figure));
find("#theme").onclick = () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  retheme();
};
system.onchange = retheme;
addEventListener("beforeprint", () => {
  const redrawn = isDark();
  printing = true;
  if (redrawn) retheme();
  document.querySelectorAll("figure").forEach(draw);
});
addEventListener("afterprint", () => {
  printing = false;
  if (isDark()) retheme();
});
find("#theme").textContent = isDark() ? "Light theme" : "Dark theme";

filterAndSort();
