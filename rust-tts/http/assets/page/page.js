import { canStream, playStream } from "./player.js";

/** What is offered, the best to listen to at once first: the name, and what an `<audio>` says of its type. */
const FORMATS = [
  ["fmp4", "audio/mp4"],
  ["webm", "audio/webm"],
  ["mp3", "audio/mpeg"],
  ["opus", "audio/ogg"],
  ["flac", "audio/flac"],
  ["wav", "audio/wav"],
];

const form = document.getElementById("speak");
const player = document.getElementById("player");
const status = document.getElementById("status");
const fields = form.elements;
/** Ends what is being fetched. */
let running = new AbortController();
let models = [];
let voices = [];

/** Says how it goes. Always as text: names of voices and messages are whatever somebody chose. */
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

/** Asks what there is. */
async function load() {
  try {
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
    if (canStream(format)) {
      const response = await ask("tts/generate", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(request),
        signal,
      });
      say("arriving", `first audio after ${response.headers.get("X-Time-To-First-Audio-Ms")} ms`);
      await playStream(player, response, format);
      say("arrived", "all of it has arrived");
    } else {
      // An <audio> sends no headers: a key has to go into the address.
      const key = fields.key.value ? { api_key: fields.key.value } : {};
      player.src = `tts/generate?${new URLSearchParams({ ...request, ...key })}`;
      await player.play();
      say("arriving", "");
    }
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
