//! State that all handlers share.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chatterbox_speech::metrics::Metrics;
use chatterbox_speech::service::SpeechService;
use tokio::sync::Semaphore;

use crate::auth::Keys;
use crate::finished::FinishedFiles;
use crate::options::{HttpLimits, HttpOptions};
use crate::origins::OriginPolicy;
use crate::quota::Quota;
use crate::uploads::Uploads;

/// Clips to be converted that are in memory at once, in the queue or spoken; each may take more than 100 MB.
const CLIPS: usize = 16;

/// The server's state, behind an `Arc` in every handler.
pub struct App {
    pub speech: Arc<SpeechService>,
    pub sockets: Arc<Quota>,
    /// The memory for uploads, and turns at decoding.
    pub uploads: Uploads,
    /// Clips that are converted, or wait to be.
    pub clips: Arc<Semaphore>,
    pub finished: Arc<FinishedFiles>,
    pub keys: Keys,
    pub metrics: Metrics,
    /// When the server started, in seconds since 1970.
    pub started: u64,
    pub limits: HttpLimits,
    pub origins: OriginPolicy,
    /// Models and voices are listed also for those who have no key.
    pub public_listings: bool,
}

pub type Shared = Arc<App>;

impl App {
    pub fn new(
        speech: Arc<SpeechService>,
        options: &HttpOptions,
        keys: Keys,
        metrics: Metrics,
    ) -> Self {
        let limits = options.limits.clone();
        let of_speech = &speech.options.limits;
        let largest = speech.voice_options.max_voice_file_size;
        Self {
            sockets: Quota::new(
                limits.max_ws_connections_per_client,
                limits.max_ws_connections,
            ),
            uploads: Uploads::new(largest, of_speech.request_timeout),
            clips: Arc::new(Semaphore::new(CLIPS.max(of_speech.slots()))),
            finished: Arc::default(),
            speech,
            origins: OriginPolicy::new(options, !keys.open()),
            keys,
            metrics,
            started: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            limits,
            public_listings: options.public_listings,
        }
    }
}
