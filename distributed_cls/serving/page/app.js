// Pictures go to the server one request each, a few at a time; answers and history live in this tab only.
"use strict";

const MOST_AT_ONCE = 4;
const MOST_IN_HISTORY = 60;
const MOST_TRIES = 4;
const maxBytes = Number(document.body.dataset.maxBytes);
const resize = document.body.dataset.resize;
const unclearBelow = Number(document.body.dataset.unclearBelow);
const hasHeatMap = document.body.dataset.heatMap === "yes";
const byId = (id) => document.getElementById(id);
const results = byId("results");

let shown = []; // the pictures of the last upload, in order
let earlier = []; // all before, newest first
const line = []; // pictures that wait to be sent
let underway = 0;

function announce(text) {
  byId("announcement").textContent = text; // for screen readers
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1%";
  if (share < 1 && share >= 0.9995) return "> 99.9%";
  return `${(100 * share).toFixed(1)}%`;
}

// ── one picture ────────────────────────────────────────────────────────────────────────────────────────────────────

function newPicture(file) {
  const card = byId("card-template").content.cloneNode(true).firstElementChild;
  const picture = { file, card, url: URL.createObjectURL(file), answer: null, heat: null };
  const image = card.querySelector(".picture");
  card.querySelector(".file").textContent = file.name || "Pasted picture";
  image.addEventListener("load", () => {
    image.classList.toggle("small-picture", Math.max(image.naturalWidth, image.naturalHeight) <= 128);
    placeHeat(picture);
  });
  image.addEventListener("error", () => {
    image.hidden = true;
    card.querySelector(".no-preview").hidden = false;
  });
  image.src = picture.url;
  card.querySelector(".heat-button").addEventListener("click", () => toggleHeat(picture));
  return picture;
}

function forget(picture) {
  URL.revokeObjectURL(picture.url);
  if (picture.heat) URL.revokeObjectURL(picture.heat);
}

// What is said in the place of a class: the model's own threshold comes before that of this page.
function doubtAbout(answer) {
  if (!answer.accepted) return "None of these";
  return answer.confidence < unclearBelow ? "Unclear" : "";
}

function showAnswer(picture) {
  const { card, answer } = picture;
  const name = card.querySelector(".file").textContent;
  card.querySelector(".waiting").hidden = true;
  if (answer.error) {
    const problem = card.querySelector(".problem");
    problem.textContent = answer.error;
    problem.hidden = false;
    card.classList.add("unread");
    announce(`${name}: ${answer.error}`);
    return;
  }
  const doubt = doubtAbout(answer);
  const likely = card.querySelector(".likely");
  card.querySelector(".label").textContent = doubt || answer.label;
  likely.textContent = `Most likely “${answer.label}”, `;
  likely.hidden = !doubt;
  card.classList.toggle("unclear", doubt !== "");
  card.querySelector(".confidence strong").textContent = percent(answer.confidence);
  card.querySelector(".picture").alt = `${name}, classified as ${answer.label}`;
  card.querySelector(".bars").replaceChildren(...answer.top.map(bar));
  card.querySelector(".heat-button").hidden = !hasHeatMap;
  card.querySelector(".found").hidden = false;
  announce(`${name}: ${doubt ? `${doubt.toLowerCase()}, most likely ` : ""}${answer.label}, ${percent(answer.confidence)} confidence`);
}

function bar(guess) {
  const row = byId("bar-template").content.cloneNode(true).firstElementChild;
  row.querySelector(".bar-name").textContent = guess.label;
  row.querySelector(".bar-share").textContent = percent(guess.confidence);
  row.querySelector(".bar-fill").style.width = `${100 * guess.confidence}%`;
  return row;
}

// ── asking the server ──────────────────────────────────────────────────────────────────────────────────────────────

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

async function send(address, file, onWait) {
  for (let tries = 1; ; tries += 1) {
    const form = new FormData();
    form.append("file", file, file.name || "pasted.png");
    const answer = await fetch(address, { method: "POST", body: form });
    if (answer.status !== 503 || tries === MOST_TRIES) return answer;
    const seconds = Number(answer.headers.get("retry-after")) || 1;
    onWait(seconds);
    await pause(seconds);
  }
}

async function ask(picture) {
  const words = picture.card.querySelector(".waiting-words");
  try {
    if (picture.file.size > maxBytes - 4096) {
      return { error: `This file is larger than the ${Math.round(maxBytes / 1048576)} MB that can be sent.` };
    }
    const answer = await send("classify?top=5", picture.file, (seconds) => {
      words.textContent = `The server is busy; trying again in ${seconds} s …`;
    });
    const body = await answer.json();
    return answer.ok ? body.results[0] : { error: body.error };
  } catch {
    return { error: "The server cannot be reached, or the picture can no longer be read. Try again." };
  }
}

async function work() {
  while (line.length > 0 && underway < MOST_AT_ONCE) {
    const picture = line.shift();
    underway += 1;
    ask(picture).then((answer) => {
      underway -= 1;
      picture.answer = answer;
      showAnswer(picture);
      drawHistory();
      work();
    });
  }
}

// ── heat map ───────────────────────────────────────────────────────────────────────────────────────────────────────

async function toggleHeat(picture) {
  const button = picture.card.querySelector(".heat-button");
  const note = picture.card.querySelector(".heat-note");
  const heat = picture.card.querySelector(".heat");
  if (button.getAttribute("aria-pressed") === "true") {
    button.setAttribute("aria-pressed", "false");
    heat.hidden = true;
    note.hidden = true;
    return;
  }
  note.hidden = false;
  if (!picture.heat) {
    note.textContent = "Computing the heat map …";
    button.disabled = true;
    try {
      const answer = await send(`explain?label=${encodeURIComponent(picture.answer.label)}`, picture.file, () => {});
      if (!answer.ok) throw new Error((await answer.json()).error);
      picture.heat = URL.createObjectURL(await answer.blob());
      heat.src = picture.heat;
    } catch (error) {
      note.textContent = error.message || "There is no heat map for this picture.";
      return;
    } finally {
      button.disabled = false;
    }
  }
  button.setAttribute("aria-pressed", "true");
  heat.hidden = false;
  placeHeat(picture);
  note.textContent = `Brighter areas contributed more to “${picture.answer.label}”.`;
  announce(`Heat map shown for ${picture.answer.label}.`);
}

// The heat map covers what the model saw: the whole picture (stretch), its centre square (crop), or the square around
// it (pad).
function placeHeat(picture) {
  const image = picture.card.querySelector(".picture");
  const heat = picture.card.querySelector(".heat");
  if (heat.hidden || !image.naturalWidth) return;
  const { offsetLeft: left, offsetTop: top, clientWidth: width, clientHeight: height } = image;
  const edge = resize === "crop" ? Math.min(width, height) : Math.max(width, height);
  const [w, h] = resize === "stretch" ? [width, height] : [edge, edge];
  Object.assign(heat.style, {
    left: `${left + (width - w) / 2}px`, top: `${top + (height - h) / 2}px`, width: `${w}px`, height: `${h}px`,
  });
}

window.addEventListener("resize", () => shown.forEach(placeHeat));

// ── this visit ─────────────────────────────────────────────────────────────────────────────────────────────────────

function show(pictures) {
  earlier = [...[...shown].reverse(), ...earlier].filter((picture) => !pictures.includes(picture));
  earlier.splice(MOST_IN_HISTORY).forEach(forget);
  shown = pictures;
  results.replaceChildren(...shown.map((picture) => picture.card));
  results.hidden = shown.length === 0;
  document.body.classList.add("compact");
  drawHistory();
  shown.forEach(placeHeat);
}

function drawHistory() {
  byId("tiles").replaceChildren(...earlier.filter((picture) => picture.answer).map(tile));
  byId("history").hidden = byId("tiles").childElementCount === 0;
}

function tileLabel(answer) {
  if (answer.error) return "Not readable";
  return doubtAbout(answer) || answer.label;
}

function tile(picture) {
  const item = byId("tile-template").content.cloneNode(true).firstElementChild;
  const { answer } = picture;
  item.querySelector("img").src = picture.url;
  item.querySelector(".tile-label").textContent = tileLabel(answer);
  item.querySelector(".tile-share").textContent = answer.error ? "" : percent(answer.confidence);
  item.querySelector("button").addEventListener("click", () => {
    show([picture]);
    results.scrollIntoView({ block: "nearest" });
    results.querySelector(".heat-button")?.focus();
  });
  return item;
}

byId("clear").addEventListener("click", () => {
  earlier.forEach(forget);
  earlier = [];
  drawHistory();
  byId("pick").focus();
  announce("History cleared.");
});

// ── ways in: choose, photograph, drop, paste ───────────────────────────────────────────────────────────────────────

function take(files) {
  const pictures = [...files].map(newPicture);
  if (pictures.length === 0) return;
  line.push(...pictures);
  show(pictures);
  announce(pictures.length === 1 ? "Classifying one picture." : `Classifying ${pictures.length} pictures.`);
  work();
}

for (const id of ["pick", "photograph"]) {
  byId(id).addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = ""; // the same picture may be chosen again
  });
}

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
let depth = 0;
function veil(change) {
  depth = Math.max(0, change === 0 ? 0 : depth + change);
  byId("veil").hidden = depth === 0;
}
document.addEventListener("dragenter", (event) => carriesFiles(event) && veil(1));
document.addEventListener("dragleave", (event) => carriesFiles(event) && veil(-1));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  veil(0);
  if (!carriesFiles(event)) return;
  take(event.dataTransfer.files);
  if (event.dataTransfer.files.length === 0) announce("Nothing that was dropped is a file.");
});
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length > 0) {
    event.preventDefault();
    take(files);
  } else {
    announce("The clipboard holds no picture.");
  }
});
