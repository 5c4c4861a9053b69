#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use chatterbox_speech::metrics::Metrics;
use chatterbox_speech::options::SpeechOptions;
use chatterbox_speech::service::SpeechService;
use chatterbox_voices::VoiceOptions;
use clap::Parser;

use super::*;
use crate::auth::Keys;
use crate::options::HttpOptions;

/// Every option that the server has.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    server: HttpOptions,
    #[command(flatten)]
    speech: SpeechOptions,
    #[command(flatten)]
    voices: VoiceOptions,
}

/// A connection to a server whose engine makes no audio.
fn connection_to_idle_engine(folder: &tempfile::TempDir) -> Connection {
    let folder = folder.path().to_str().unwrap();
    let options = Options::parse_from(["server", "--voices-dir", folder]);
    let (engine, _) = chatterbox_engine::spawn(drop).unwrap();
    let store = Arc::new(options.voices.open().unwrap());
    let speech = SpeechService::new(engine, store, options.speech, options.voices);
    let metrics = Metrics::install().unwrap();
    let app = App::new(Arc::new(speech), &options.server, Keys::none(), metrics);
    let (events, _) = mpsc::channel(1);
    Connection::new(Arc::new(app), events, Listener::default())
}

#[test]
fn test_header_and_binary_frame_stay_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connection_to_idle_engine(&folder);
    for key in [Some(1), None, Some(2), Some(1)] {
        connection.queue(Frame::Text("a header".into()), key);
        connection.queue(Frame::Binary(vec![1]), key);
    }
    assert!(
        connection
            .outgoing
            .iter()
            .all(|outgoing| outgoing.binary.is_some())
    );
    assert_eq!(connection.outgoing.len(), 4);
    connection.perform(vec![Action::Cancel { key: 1 }], None);
    let left: Vec<_> = connection
        .outgoing
        .iter()
        .map(|outgoing| outgoing.key)
        .collect();
    assert_eq!(left, [None, Some(2)], "what is cancelled is not sent");
}
