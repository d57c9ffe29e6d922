"use strict";

// Search, filters, copy buttons, and unfolding everything for print. The page is readable without this script.

const form = document.getElementById("filters");
const text = document.getElementById("text");
const kind = document.getElementById("kind");
const station = document.getElementById("station");
const findings = [...document.querySelectorAll(".finding")];
const stations = [...document.querySelectorAll(".station")];

// The searchable text, cached: reading that of thousands of elements is slow.
const words = new Map([...findings, ...stations].map((element) => [element, element.textContent.toLowerCase()]));

function show() {
  const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const severities = new Set([...form.querySelectorAll("input:checked")].map((box) => box.value));
  const matches = (element) =>
    (!station.value || element.dataset.station === station.value) &&
    wanted.every((word) => words.get(element).includes(word));
  let shownFindings = 0;
  for (const finding of findings) {
    const { severity, kind: findingKind } = finding.dataset;
    const shown = matches(finding) && severities.has(severity) && (!kind.value || findingKind === kind.value);
    finding.hidden = !shown;
    shownFindings += shown;
  }
  let shownStations = 0;
  for (const element of stations) {
    const shown = matches(element);
    element.hidden = !shown;
    shownStations += shown;
  }
  document.getElementById("nothing").hidden = shownFindings > 0 || findings.length === 0;
  document.getElementById("count").textContent =
    `${shownFindings} of ${findings.length} findings, ${shownStations} of ${stations.length} base stations`;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.firstChild;
  try {
    await navigator.clipboard.writeText(source.textContent);
    label.data = "Copied";
  } catch {
    // Browsers may deny clipboard access to local files: select the text, so that the user can copy it.
    getSelection().selectAllChildren(source);
    label.data = "Selected: press Ctrl+C";
  }
  document.getElementById("said").textContent = label.data;
  setTimeout(() => { label.data = "Copy"; }, 2000);
}

let timer = 0;
form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(show, 80);
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
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded) details.open = false;
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
