#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::mpsc as blocking;
use std::time::Duration;

use super::*;
use chatterbox_engine::messages::{
    Command, EngineInfo, Enrolled, Event, Failed, FailureCode, Model,
};
use chatterbox_engine::{Engine, EngineError, spawn};
use chatterbox_voices::{Details, Existing, UploadLimits};

/// An engine that prepares a voice when the test says so.
struct ScriptedEngine {
    /// The enrolments that have come.
    enrolments_sent: blocking::Sender<Enroll>,
    /// Whether each of them, in order, is a success.
    answers: blocking::Receiver<bool>,
}

impl Engine for ScriptedEngine {
    fn info(&self) -> Result<EngineInfo, EngineError> {
        let model = |name: &str, can_clone| Model {
            name: name.into(),
            sample_rate: 24_000,
            can_clone,
            can_convert: false,
            languages: vec!["en".into()],
            voices: Vec::new(),
            tags: Vec::new(),
            watermark: false,
        };
        let models = [model("one", true), model("mute", false), model("two", true)];
        Ok(EngineInfo {
            device: "none".into(),
            models: models.map(Arc::new).into(),
        })
    }

    fn idle(&self) -> Result<bool, EngineError> {
        Ok(true)
    }

    fn step(&mut self, commands: Vec<Command>) -> Result<Vec<Event>, EngineError> {
        let mut events = Vec::new();
        for command in commands {
            let Command::Enroll(enroll) = command else {
                continue;
            };
            let (id, voice, model) = (enroll.id, enroll.voice.clone(), enroll.model.clone());
            self.enrolments_sent.send(enroll).unwrap();
            let cache_bytes = 1;
            events.push(if self.answers.recv().unwrap() {
                Event::Enrolled(Enrolled {
                    id,
                    voice,
                    model,
                    cache_bytes,
                })
            } else {
                Event::Failed(Failed {
                    id,
                    code: FailureCode::UnsupportedAudio,
                    field: None,
                    message: "no voice in it".into(),
                })
            });
        }
        Ok(events)
    }

    fn voice_cache_bytes(&self) -> u64 {
        0
    }

    fn close(&mut self) {}
}

struct TestBench {
    enrolments: Arc<Enrolments>,
    engine: EngineHandle,
    store: Arc<VoiceStore>,
    voice: Voice,
    enrolments_sent: blocking::Receiver<Enroll>,
    answers: blocking::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl TestBench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = VoiceStore::open(folder.path(), None, UploadLimits::default()).unwrap();
        let voice = store
            .save("a.wav", &clip(), Existing::Keep, &Details::default())
            .unwrap();
        let (enrolments_sent, seen) = blocking::channel();
        let (answers, script) = blocking::channel();
        let engine = ScriptedEngine {
            enrolments_sent,
            answers: script,
        };
        let (engine, _thread) = spawn(move |worker| worker.run(|| Ok(engine))).unwrap();
        let mut states = engine.status().subscribe();
        let ready = |state: &chatterbox_engine::EngineState| {
            matches!(state, chatterbox_engine::EngineState::Ready(_))
        };
        states.wait_for(ready).await.unwrap();
        Self {
            enrolments: Arc::default(),
            engine,
            store: Arc::new(store),
            voice,
            enrolments_sent: seen,
            answers,
            _folder: folder,
        }
    }

    fn ask(&self) -> tokio::task::JoinHandle<Result<(), Error>> {
        let (enrolments, engine) = (Arc::clone(&self.enrolments), self.engine.clone());
        let (store, voice) = (Arc::clone(&self.store), self.voice.clone());
        tokio::spawn(async move { enrolments.ensure(&engine, &store, &voice, "one").await })
    }

    /// The enrolment that the engine works on.
    fn next_enrolment(&self) -> Enroll {
        let patience = Duration::from_secs(20);
        tokio::task::block_in_place(|| self.enrolments_sent.recv_timeout(patience)).unwrap()
    }

    fn is_engine_idle(&self) -> bool {
        matches!(
            self.enrolments_sent.try_recv(),
            Err(blocking::TryRecvError::Empty)
        )
    }
}

/// A second of a square wave as a WAV file.
fn clip() -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for at in 0..16_000 {
        writer
            .write_sample(if at % 40 < 20 { 9000_i16 } else { -9000 })
            .unwrap();
    }
    writer.finalize().unwrap();
    file.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn test_concurrent_requests_share_preparation() {
    let bench = TestBench::new().await;
    let first = bench.ask();
    let enroll = bench.next_enrolment();
    assert_eq!(
        (enroll.voice, enroll.model),
        (bench.voice.key.clone(), "one".into())
    );
    assert_eq!((enroll.pcm.len(), enroll.sample_rate), (16_000, 8000));
    let second = bench.ask();
    // It goes on when the first one leaves.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    bench.answers.send(true).unwrap();
    second.await.unwrap().unwrap();
    bench.ask().await.unwrap().unwrap();
    assert!(bench.is_engine_idle());
}

#[tokio::test(flavor = "multi_thread")]
async fn test_failed_preparation_reaches_all_and_is_retried() {
    let bench = TestBench::new().await;
    let ask = || {
        let (engine, store) = (&bench.engine, &bench.store);
        bench.enrolments.ensure(engine, store, &bench.voice, "one")
    };
    // Both have asked before either is answered.
    let answer = async { bench.answers.send(false).unwrap() };
    let (first, second, ()) = tokio::join!(biased; ask(), ask(), answer);
    for answer in [first, second] {
        assert_eq!(answer.unwrap_err().message, "no voice in it");
    }
    bench.next_enrolment();
    assert!(bench.is_engine_idle());
    let again = bench.ask();
    bench.next_enrolment();
    bench.answers.send(true).unwrap();
    again.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn test_abandoned_failure_is_not_reused() {
    let bench = TestBench::new().await;
    let first = bench.ask();
    bench.next_enrolment();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    bench.answers.send(false).unwrap();
    // A preparation has a lease on its voice.
    while !bench.enrolments.leases.remove(&bench.voice.key) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = bench.ask();
    bench.answers.send(true).unwrap();
    second.await.unwrap().unwrap();
    bench.next_enrolment();
}

#[tokio::test(flavor = "multi_thread")]
async fn test_evicted_voice_is_prepared_again_once() {
    let bench = TestBench::new().await;
    bench.answers.send(true).unwrap();
    bench.ask().await.unwrap().unwrap();
    bench.next_enrolment();
    // Two requests find out.
    bench.enrolments.evicted(&bench.voice.key, "one");
    let first = bench.ask();
    bench.next_enrolment();
    bench.enrolments.evicted(&bench.voice.key, "one");
    let second = bench.ask();
    bench.answers.send(true).unwrap();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert!(bench.is_engine_idle());
}

#[tokio::test(flavor = "multi_thread")]
async fn test_preload_prepares_every_model_despite_failures() {
    let bench = TestBench::new().await;
    bench.answers.send(false).unwrap();
    bench.answers.send(true).unwrap();
    let (engine, store) = (&bench.engine, &bench.store);
    bench.enrolments.prepare(engine, store, &bench.voice).await;
    assert_eq!(
        [bench.next_enrolment().model, bench.next_enrolment().model],
        ["one", "two"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn test_removed_voice_is_forgotten_after_last_use() {
    let bench = TestBench::new().await;
    let (enrolments, engine) = (Arc::clone(&bench.enrolments), bench.engine.clone());
    let store = Arc::clone(&bench.store);
    let listens = Arc::new(tokio::sync::Notify::new());
    let forgetting = {
        let listens = Arc::clone(&listens);
        tokio::spawn(async move {
            let forget = enrolments.forget_removed(&engine, &store);
            listens.notify_one();
            forget.await;
        })
    };
    listens.notified().await;
    bench.answers.send(true).unwrap();
    bench.ask().await.unwrap().unwrap();
    let lease = || bench.enrolments.lease(&bench.voice);
    let prepared = || !bench.enrolments.lock().is_empty();
    let settled = || tokio::time::sleep(Duration::from_millis(50));
    settled().await;
    let (first, second) = (lease(), lease());
    bench.store.delete("a").unwrap();
    settled().await;
    drop(first);
    settled().await;
    assert!(prepared(), "somebody speaks with it");
    drop(second);
    while prepared() {
        settled().await;
    }

    // A voice whose content is back in time is kept.
    let back = |name| {
        bench
            .store
            .save(name, &clip(), Existing::Keep, &Details::default())
    };
    back("b.wav").unwrap();
    bench.answers.send(true).unwrap();
    bench.ask().await.unwrap().unwrap();
    let third = lease();
    bench.store.delete("b").unwrap();
    settled().await;
    back("c.wav").unwrap();
    drop(third);
    settled().await;
    assert!(prepared());
    forgetting.abort();
}
