// Plays the server's audio while it is still being spoken. Depends on nothing else: copy it into a page of yours.

/** The formats that Media Source Extensions take as they arrive, in browsers that know them. */
export const STREAMED = {
  fmp4: 'audio/mp4; codecs="mp4a.40.2"',
  webm: 'audio/webm; codecs="opus"',
  mp3: "audio/mpeg",
};

/** Seconds of played audio that stay, to seek back to, when the browser's buffer is full. */
const KEPT_SECONDS = 10;
/** How often a full buffer is looked at again, in milliseconds. */
const FULL_PAUSE = 250;

/** Whether this browser plays a format through Media Source Extensions. */
export function canStream(format) {
  return format in STREAMED && "MediaSource" in window && MediaSource.isTypeSupported(STREAMED[format]);
}

/**
 * Plays the body of a `fetch` response in an `<audio>` element as it arrives.
 *
 * Returns when all of it is in the element's buffer, which is before it has been played; throws when the transfer
 * breaks off, or when the fetch is aborted.
 */
export async function playStream(audio, response, format) {
  const source = new MediaSource();
  audio.src = URL.createObjectURL(source);
  await happened(source, "sourceopen");
  URL.revokeObjectURL(audio.src);
  // Not awaited: sound starts when there is some. Where the browser refuses to start by itself, the controls remain.
  audio.play().catch(() => {});
  const buffer = source.addSourceBuffer(STREAMED[format]);
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      await append(audio, buffer, value);
    }
    if (source.readyState === "open") source.endOfStream();
  } catch (error) {
    if (source.readyState === "open") source.endOfStream("network");
    // The server stops speaking when the request is aborted.
    await reader.cancel().catch(() => {});
    throw error;
  }
}

/** Plays the body of a `fetch` response in an `<audio>` element when all of it has arrived, whatever its format. */
export async function playWhole(audio, response) {
  const address = URL.createObjectURL(await response.blob());
  audio.src = address;
  audio.addEventListener("emptied", () => URL.revokeObjectURL(address), { once: true });
  await audio.play().catch((error) => {
    // The browser does not start by itself so long after a click; the controls remain.
    if (error.name !== "NotAllowedError") throw error;
  });
}

/** Appends once: a buffer takes the next piece when it has dealt with the last, and throws until then. */
async function append(audio, buffer, bytes) {
  for (;;) {
    try {
      buffer.appendBuffer(bytes);
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      await makeRoom(audio, buffer);
      continue;
    }
    await happened(buffer, "updateend");
    return;
  }
}

/** Removes audio that was played long ago, or waits until more has been played. */
async function makeRoom(audio, buffer) {
  const played = audio.currentTime - KEPT_SECONDS;
  if (buffer.buffered.length > 0 && buffer.buffered.start(0) < played) {
    buffer.remove(0, played);
    await happened(buffer, "updateend");
  } else {
    await new Promise((resolve) => setTimeout(resolve, FULL_PAUSE));
  }
}

/** Waits for an event; an `error` before it is thrown. */
function happened(target, name) {
  return new Promise((resolve, reject) => {
    const listening = new AbortController();
    const once = (kind, end) => {
      const listener = (event) => {
        listening.abort();
        end(event);
      };
      target.addEventListener(kind, listener, { signal: listening.signal });
    };
    once(name, resolve);
    once("error", () => reject(new Error("The audio could not be decoded.")));
  });
}
