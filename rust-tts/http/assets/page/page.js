import { canStream, playStream, playWhole } from "./player.js";

/** The formats, the one with the earliest first audio first: the name, and the type for an `<audio>` element. */
const FORMATS = [
  ["webm", "audio/webm"],
  ["fmp4", "audio/mp4"],
  ["mp3", "audio/mpeg"],
  ["opus", "audio/ogg"],
  ["flac", "audio/flac"],
  ["wav", "audio/wav"],
];

/** Milliseconds between two looks at a server that loads its models. */
const LOADING_PAUSE = 1000;

const form = document.getElementById("speak");
const player = document.getElementById("player");
const status = document.getElementById("status");
const fields = form.elements;
/** Ends what is being fetched. */
let running = new AbortController();
let models = [];
let voices = [];

/** Shows the status. Always as text: names of voices and messages may contain markup. */
function say(state, text) {
  status.dataset.state = state;
  status.textContent = text;
}

/** The headers of a request. The key is nowhere but in its field. */
function headers() {
  return fields.key.value ? { "X-API-Key": fields.key.value } : {};
}

/** The answer of the server, or an error with its words. */
async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const words = body.detail ?? body.error?.message ?? body.error;
  throw new Error(words ?? `The server answered with status ${response.status}.`);
}

/** Fills a list with pairs of value and label. */
function fill(select, pairs) {
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, label]) => new Option(label, value)));
  if (pairs.some(([value]) => value === before)) select.value = before;
}

function showVoices() {
  const model = models.find(({ id }) => id === fields.model.value);
  const own = model?.voices ?? [];
  const stored = model?.can_clone ? voices : [];
  fill(fields.voice, [
    ["", "default"],
    ...own.map((name) => [name, name]),
    ...stored.map(({ id, name }) => [id, name]),
  ]);
}

/** Waits until the models are loaded, if they are being loaded. */
async function loaded() {
  for (;;) {
    const response = await fetch("health");
    const { status: state } = await response.json();
    if (state !== "loading") return;
    say("loading", "The models are being loaded …");
    await new Promise((resolve) => setTimeout(resolve, LOADING_PAUSE));
  }
}

/** Asks what there is. */
async function load() {
  try {
    await loaded();
    const answers = await Promise.all([ask("v1/models"), ask("api/voices")]);
    const [listed, library] = await Promise.all(answers.map((answer) => answer.json()));
    models = listed.data;
    voices = library.voices;
    fill(fields.model, models.map(({ id }) => [id, id]));
    showVoices();
    say("ready", "");
  } catch (error) {
    say("failed", error.message);
  }
}

async function speak() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const format = fields.format.value;
  const wanted = { text: fields.text.value, model: fields.model.value, voice_id: fields.voice.value, format };
  // What is left empty is the server's to choose.
  const request = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
  say("waiting", "…");
  try {
    // Not as the address of an <audio>, which sends no headers: the key would have to be in it.
    const response = await ask("tts/generate", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
      signal,
    });
    const firstAudio = `first audio after ${response.headers.get("X-Time-To-First-Audio-Ms")} ms`;
    say("arriving", firstAudio);
    await (canStream(format) ? playStream(player, response, format) : playWhole(player, response));
    say("arrived", `${firstAudio}; all of it has arrived`);
  } catch (error) {
    // Whoever stopped it, or asked for another, knows.
    if (!signal.aborted) say("failed", error.message);
  }
}

function stop() {
  running.abort();
  player.removeAttribute("src");
  player.load();
  say("ready", "");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  speak();
});
document.getElementById("stop").addEventListener("click", stop);
fields.key.addEventListener("change", load);
fields.model.addEventListener("change", showVoices);

const playable = FORMATS.filter(([format, type]) => canStream(format) || player.canPlayType(type));
fill(fields.format, playable.map(([format]) => [format, format]));
load();
