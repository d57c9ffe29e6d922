"use strict";

// Search and filters; copying; and paper, on which everything is unfolded. Without this script all can be read.

const form = document.getElementById("filters");
const text = document.getElementById("text");
const kind = document.getElementById("kind");
const station = document.getElementById("station");
const findings = [...document.querySelectorAll(".finding")];
const stations = [...document.querySelectorAll(".station")];

// What is searched, written once: reading the text of thousands of elements takes time.
const words = new Map([...findings, ...stations].map((each) => [each, each.textContent.toLowerCase()]));

function show() {
  const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const severities = new Set([...form.querySelectorAll("input:checked")].map((box) => box.value));
  const matches = (each) =>
    (!station.value || each.dataset.station === station.value) && wanted.every((word) => words.get(each).includes(word));
  let shown = 0;
  for (const each of findings) {
    const found =
      matches(each) && severities.has(each.dataset.severity) && (!kind.value || each.dataset.kind === kind.value);
    each.hidden = !found;
    shown += found;
  }
  let judged = 0;
  for (const each of stations) {
    const found = matches(each);
    each.hidden = !found;
    judged += found;
  }
  document.getElementById("nothing").hidden = shown > 0 || findings.length === 0;
  document.getElementById("count").textContent =
    `${shown} of ${findings.length} findings, ${judged} of ${stations.length} base stations`;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.firstChild;
  try {
    await navigator.clipboard.writeText(source.textContent);
    label.data = "Copied";
  } catch {
    // The browser does not let a file write to the clipboard: select the text, for the user to copy it.
    getSelection().selectAllChildren(source);
    label.data = "Selected: press Ctrl+C";
  }
  document.getElementById("said").textContent = label.data;
  setTimeout(() => { label.data = "Copy"; }, 2000);
}

let waiting = 0;
form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(show, 80);
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(show));
document.addEventListener("click", (event) => {
  const button = event.target.closest(".copy");
  if (button) copy(button);
});

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const each of folded) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of folded) each.open = false;
});

// A link to a finding opens it.
function unfold() {
  const target = /^#finding-\d+$/.test(location.hash) && document.querySelector(location.hash);
  if (target) target.open = true;
}
addEventListener("hashchange", unfold);
unfold();

form.hidden = false;
for (const button of document.querySelectorAll(".copy")) button.hidden = false;
show();
