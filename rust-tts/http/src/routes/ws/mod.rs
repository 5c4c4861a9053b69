//! `/ws/tts`: carries a [`Session`] over a socket.

mod keepalive;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span, debug, info_span};

use crate::auth::{self, ClientKey, Peer, client_of};
use crate::error::{ApiError, PlainError};
use chatterbox_audio::Format;
use chatterbox_speech::error::{Code, Error};

use crate::observe::RequestId;
use crate::quota::QuotaPermit;
use crate::state::{App, Shared};
use chatterbox_speech::listener::Listener;
use chatterbox_speech::metrics;
use chatterbox_speech::params::SpeechParams;
use chatterbox_speech::request::SpeechRequest;
use chatterbox_speech::session::{Action, Frame, Host, Session, SessionLimits, StreamKey, close};
use chatterbox_speech::{self as speech, SpeechEvent};
use chatterbox_text::Utterance;
use keepalive::{KeepAlive, Timeout};
use writer::{Outgoing, message, write};

/// The route as metrics name it.
const ROUTE: &str = "/ws/tts";
/// Largest message of a client, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Largest frame that is read, in bytes. More than a message may have: one that is a little too big is read to its end,
/// because a socket closed with unread input is reset, and a reset can overtake the close frame.
const MAX_FRAME: usize = 2 * MAX_MESSAGE;
/// Read at once from a client, in bytes: its messages are short, and the protocol layer clears this much at every poll.
const READ_BUFFER: usize = 4 * 1024;
/// Gathered before it is written, in bytes.
const WRITE_BUFFER: usize = 16 * 1024;
/// Frames that wait for the client to read; then its audio waits.
const FRAMES: usize = 16;
/// Answers that wait for a client that does not read them; then its messages are not read.
const MAX_OUTGOING: usize = 256;
/// How long a client may take to answer a close frame.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Upgrades a request to a WebSocket.
#[utoipa::path(
    get,
    path = "/ws/tts",
    tag = "Speech",
    operation_id = "openWebSocket",
    responses((status = 101, description = "A WebSocket, whose messages are JSON objects with a `type`."), PlainError)
)]
pub async fn open(
    State(app): State<Shared>,
    Extension(peer): Extension<Peer>,
    Extension(id): Extension<RequestId>,
    key: Option<Extension<ClientKey>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let mut upgrade = upgrade.map_err(|error| Error::new(Code::BadRequest, error.body_text()))?;
    app.speech.ready()?;
    let client = client_of(peer, key);
    let permit = app.sockets.take(&client).ok_or_else(|| {
        Error::new(Code::ServerBusy, "Too many WebSockets are open.")
            .retry_after(app.speech.admission.retry_after())
    })?;
    if let Some(protocol) = auth::key_subprotocol(&headers) {
        upgrade = upgrade.protocols([protocol]);
    }
    let span = info_span!("socket", id = %id.0);
    let (tasks, listener) = (app.speech.tasks.clone(), Listener::current());
    Ok(upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| {
            tasks.track_future(run_connection(app, socket, listener, permit).instrument(span))
        }))
}

impl Host for App {
    fn validate(&self, params: SpeechParams, more: bool) -> Result<SpeechRequest, Error> {
        params
            .validate(&self.speech, Format::PcmS16le, more)
            .inspect_err(|_| metrics::refused(ROUTE))
    }

    fn set_default_voice(&self, reference: &str) -> Result<String, Error> {
        Ok(tokio::task::block_in_place(|| self.speech.voices.set_default(reference))?.id)
    }

    fn find_voice(&self, reference: &str) -> Result<String, Error> {
        Ok(tokio::task::block_in_place(|| self.speech.voices.find(reference))?.id)
    }
}

type KeyedEvent = (StreamKey, Result<SpeechEvent, Error>);

/// A stream that runs: dropping it cancels it.
struct Running {
    /// `None` after the end of the text.
    texts: Option<mpsc::UnboundedSender<Utterance>>,
    sample_rate: f64,
    /// Seconds of audio sent.
    sent: f64,
    _forwarder: AbortOnDropHandle<()>,
}

struct Connection {
    app: Shared,
    session: Session,
    running: HashMap<StreamKey, Running>,
    events: mpsc::Sender<KeyedEvent>,
    /// Knows when the client has stopped reading.
    listener: Listener,
    /// Messages that the writer has not taken yet, in order.
    outgoing: VecDeque<Outgoing>,
    /// A close frame waits to be sent or was received.
    closing: bool,
}

async fn run_connection(app: Shared, socket: WebSocket, listener: Listener, _permit: QuotaPermit) {
    let (sink, mut stream) = socket.split();
    let (frames, queue) = mpsc::channel(FRAMES);
    let writer = write(sink, queue, listener.stalled().clone());
    let writer = AbortOnDropHandle::new(tokio::spawn(writer));
    let (events, mut arrived) = mpsc::channel(FRAMES);
    let (drain, cut) = (app.speech.drain.clone(), app.speech.cut.clone());
    let mut connection = Connection::new(app, events, listener.clone());
    let mut keepalive = KeepAlive::new(&connection.app);
    while !connection.closing {
        tokio::select! {
            permit = frames.reserve(), if !connection.outgoing.is_empty() => match (permit, connection.outgoing.pop_front()) {
                (Ok(permit), Some(outgoing)) => permit.send(outgoing),
                // The writer has ended: the client has disconnected.
                _ => break,
            },
            Some((key, event)) = arrived.recv(), if connection.outgoing.is_empty() => {
                keepalive.audio_sent(connection.seconds_of(key, &event));
                connection.on_speech_event(key, event);
            }
            message = stream.next(), if connection.queued_answers() < MAX_OUTGOING => match message {
                Some(Ok(message)) => {
                    keepalive.message_received(&message);
                    connection.handle_message(message);
                }
                Some(Err(error)) => {
                    debug!(%error, "the socket broke");
                    connection.refuse(&error);
                }
                None => break,
            },
            () = listener.stalled().cancelled() => connection.on_stalled(),
            () = drain.cancelled(), if !connection.session.draining() => connection.drain(),
            () = cut.cancelled() => connection.close(close::AWAY, "the server is shutting down"),
            () = keepalive.next(connection.session.idle()) => match keepalive.expired(connection.session.idle(), !connection.outgoing.is_empty()) {
                Timeout::Ping => connection.answer(Message::Ping(bytes::Bytes::new())),
                Timeout::Idle => connection.close(close::AWAY, "nothing was said for a long time"),
                Timeout::Dead => break,
            },
            // The writer has ended: the client has disconnected.
            () = frames.closed() => break,
        }
    }
    // Cancels whatever still speaks. The writer finishes what is queued, unless the client has stopped reading.
    let outgoing = std::mem::take(&mut connection.outgoing);
    drop(connection);
    for outgoing in outgoing {
        if frames.send(outgoing).await.is_err() {
            break;
        }
    }
    drop(frames);
    let _ = writer.await;
    // A socket closed with unread input is reset, and a reset can overtake the close frame.
    let farewell = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = timeout(CLOSE_GRACE, farewell).await;
}

impl Connection {
    fn new(app: Shared, events: mpsc::Sender<KeyedEvent>, listener: Listener) -> Self {
        let limits = SessionLimits {
            max_streams: app.limits.max_says_per_connection,
            max_text_length: app.speech.options.limits.max_text_length,
        };
        let mut outgoing = VecDeque::new();
        if let Some(info) = app.speech.engine.status().ready() {
            outgoing.push_back(Outgoing::answer(message(Session::ready(
                &info.names(),
                &info.device,
            ))));
        }
        Self {
            app,
            session: Session::new(limits),
            running: HashMap::new(),
            events,
            listener,
            outgoing,
            closing: false,
        }
    }

    fn answer(&mut self, message: Message) {
        self.outgoing.push_back(Outgoing::answer(message));
    }

    fn queued_answers(&self) -> usize {
        self.outgoing
            .iter()
            .filter(|outgoing| outgoing.key.is_none())
            .count()
    }

    /// Audio that waits is dropped, and the streams' errors are sent, if there is any room for them.
    fn on_stalled(&mut self) {
        let stall_timeout = self.app.speech.options.limits.stall_timeout;
        self.outgoing.clear();
        let actions = self.session.on_stalled(&Error::stalled(stall_timeout));
        self.perform(actions, None);
        self.close(close::POLICY, "the audio was not read");
    }

    fn drain(&mut self) {
        let actions = self.session.drain();
        self.perform(actions, None);
    }

    /// Seconds of audio that an event lets out.
    fn seconds_of(&mut self, key: StreamKey, event: &Result<SpeechEvent, Error>) -> f64 {
        let Some(stream) = self.running.get_mut(&key) else {
            return 0.0;
        };
        let seconds = match event {
            Ok(SpeechEvent::Audio(audio)) => audio.samples as f64 / stream.sample_rate,
            Ok(SpeechEvent::Finished { summary, .. }) => summary.audio_seconds - stream.sent,
            _ => 0.0,
        };
        stream.sent += seconds;
        seconds.max(0.0)
    }

    fn on_speech_event(&mut self, key: StreamKey, event: Result<SpeechEvent, Error>) {
        if self.listener.stalled().is_cancelled() {
            // All streams fail at once.
            return;
        }
        if matches!(event, Ok(SpeechEvent::Finished { .. }) | Err(_)) {
            self.running.remove(&key);
        }
        let actions = self.session.on_event(key, event);
        self.perform(actions, Some(key));
    }

    fn handle_message(&mut self, message: Message) {
        let actions = match message {
            Message::Text(text) => self.session.on_text(&text, &*self.app),
            Message::Binary(_) => self.session.on_binary(),
            Message::Ping(_) => {
                let (key, message, binary) = (None, None, None);
                self.outgoing.push_back(Outgoing {
                    key,
                    message,
                    binary,
                });
                return;
            }
            Message::Pong(_) => return,
            Message::Close(_) => {
                self.running.clear();
                self.outgoing.clear();
                self.closing = true;
                return;
            }
        };
        self.perform(actions, None);
    }

    /// The client broke the protocol: closes with the code of the broken rule.
    fn refuse(&mut self, error: &axum::Error) {
        use std::error::Error;
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        let (code, reason) = if cause.contains("too long") {
            (close::TOO_BIG, "the message is too big")
        } else if cause.contains("UTF-8") {
            (close::NOT_TEXT, "the text is not UTF-8")
        } else {
            (close::PROTOCOL, "protocol error")
        };
        self.outgoing.clear();
        self.close(code, reason);
    }

    fn close(&mut self, code: u16, reason: &'static str) {
        self.running.clear();
        let reason = reason.into();
        self.answer(Message::Close(Some(CloseFrame { code, reason })));
        self.closing = true;
    }

    /// `key` is the stream that the frames belong to.
    fn perform(&mut self, actions: Vec<Action>, key: Option<StreamKey>) {
        for action in actions {
            match action {
                Action::Send(frame) => self.queue(frame, key),
                Action::Start { key, request } => self.start(key, *request),
                Action::Text { key, utterances } => {
                    if let Some(texts) = self
                        .running
                        .get(&key)
                        .and_then(|stream| stream.texts.as_ref())
                    {
                        // A stream that has failed takes no more text; its error is on the way.
                        for utterance in utterances {
                            let _ = texts.send(utterance);
                        }
                    }
                }
                Action::EndText { key } => {
                    if let Some(stream) = self.running.get_mut(&key) {
                        stream.texts = None;
                    }
                }
                Action::Cancel { key } => {
                    self.running.remove(&key);
                    self.outgoing.retain(|outgoing| outgoing.key != Some(key));
                }
                Action::Close { code, reason } => self.close(code, reason),
            }
        }
    }

    fn queue(&mut self, frame: Frame, key: Option<StreamKey>) {
        match (frame, self.outgoing.back_mut()) {
            // The session sends a binary frame right after its header.
            (Frame::Binary(bytes), Some(header))
                if header.key == key && header.binary.is_none() =>
            {
                header.binary = Some(Message::Binary(bytes.into()));
            }
            (frame, _) => {
                let message = Some(message(frame));
                self.outgoing.push_back(Outgoing {
                    key,
                    message,
                    binary: None,
                });
            }
        }
    }

    fn start(&mut self, key: StreamKey, request: SpeechRequest) {
        let (texts, utterances) = mpsc::unbounded_channel();
        let sample_rate = f64::from(request.output.encoding.sample_rate);
        let start = || speech::start(&self.app.speech, request, utterances, ROUTE);
        let mut speech = self.listener.sync_scope(start);
        let events = self.events.clone();
        let forward = async move {
            while let Some(event) = speech.next().await {
                if events.send((key, event)).await.is_err() {
                    return;
                }
            }
        };
        let forwarder = AbortOnDropHandle::new(tokio::spawn(forward.instrument(Span::current())));
        self.running.insert(
            key,
            Running {
                texts: Some(texts),
                sample_rate,
                sent: 0.0,
                _forwarder: forwarder,
            },
        );
    }
}

#[cfg(test)]
mod tests;
