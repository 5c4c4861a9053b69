//! What every handler shares.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Keys;
use crate::config::{EngineOptions, LimitOptions, ServerOptions, VoiceOptions};
use crate::engine::EngineHandle;
use crate::engine::messages::EngineInfo;
use crate::error::{ApiError, Code};
use crate::limits::{Admission, Quota};
use crate::metrics::Metrics;
use crate::speech::enrolment::Enrolments;
use crate::uploads::Uploads;
use crate::voices::{Voice, VoiceStore};

/// Clips to be converted that are in memory at once, in the queue or spoken; each may take more than 100 MB.
const CLIPS: usize = 16;

/// The server's state, behind an `Arc` in every handler.
pub struct App {
    pub engine: EngineHandle,
    pub voices: Arc<VoiceStore>,
    pub enrolments: Enrolments,
    pub admission: Arc<Admission>,
    pub sockets: Arc<Quota>,
    /// The memory for uploads, and turns at decoding.
    pub uploads: Uploads,
    /// Clips that are converted, or wait to be.
    pub clips: Arc<Semaphore>,
    pub keys: Keys,
    pub metrics: Option<Metrics>,
    /// When the server started, in seconds since 1970.
    pub started: u64,
    /// Cancelled when the server begins to shut down.
    pub drain: CancellationToken,
    /// Cancelled when the drain has taken too long: what still runs is cut off.
    pub cut: CancellationToken,
    /// WebSockets and other work that outlives its request.
    pub tasks: TaskTracker,
    pub engine_options: EngineOptions,
    pub voice_options: VoiceOptions,
    pub limits: LimitOptions,
    /// Origins of web pages that may open a WebSocket; `*` is all.
    pub origins: Vec<String>,
    /// Models and voices are listed also for those who have no key.
    pub public_listings: bool,
}

pub type Shared = Arc<App>;

impl App {
    pub fn new(
        engine: EngineHandle,
        voices: Arc<VoiceStore>,
        engine_options: &EngineOptions,
        voice_options: &VoiceOptions,
        server: &ServerOptions,
        keys: Keys,
        metrics: Option<Metrics>,
    ) -> Self {
        let limits = server.limits.clone();
        Self {
            engine,
            voices,
            enrolments: Enrolments::default(),
            admission: Admission::new(limits.slots(), limits.max_queue),
            sockets: Quota::new(
                limits.max_ws_connections_per_client,
                limits.max_ws_connections,
            ),
            uploads: Uploads::new(voice_options.max_voice_file_size, limits.request_timeout),
            clips: Arc::new(Semaphore::new(CLIPS.max(limits.slots()))),
            keys,
            metrics,
            started: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            engine_options: engine_options.clone(),
            voice_options: voice_options.clone(),
            limits,
            origins: allowed_origins(server),
            public_listings: server.public_listings,
        }
    }

    /// The voice that was set over the API, else the configured one; `None` where neither is there. Reads the folder.
    pub fn default_voice(&self) -> Option<Voice> {
        let configured = self.voice_options.default_voice.as_deref();
        self.voices
            .default_voice()
            .or_else(|| self.voices.find(configured?).ok())
    }

    /// Whether [`Self::default_voice`] has anything to look for.
    pub fn may_have_default_voice(&self) -> bool {
        self.voice_options.default_voice.is_some() || self.voices.has_default()
    }

    /// The loaded engine, or why there is none now.
    pub fn ready(&self) -> Result<Arc<EngineInfo>, ApiError> {
        use crate::engine::EngineState;
        if self.drain.is_cancelled() {
            return Err(
                ApiError::new(Code::Draining, "The server is shutting down.").retry_after(5),
            );
        }
        match self.engine.status().state() {
            EngineState::Ready(info) => Ok(info),
            EngineState::Loading => {
                Err(ApiError::new(Code::ServerBusy, "The models are still loading.").retry_after(5))
            }
            EngineState::Failed(_) | EngineState::Stopped => Err(ApiError::engine_gone()),
        }
    }
}

/// `null` is what any sandboxed page says it is: it is nobody's origin.
fn allowed_origins(server: &ServerOptions) -> Vec<String> {
    let origins = server
        .cors_origins
        .iter()
        .map(|origin| origin.trim().to_owned());
    origins.filter(|origin| origin != "null").collect()
}
