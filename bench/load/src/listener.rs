//! One listener: connects, has its texts spoken, and leaves.

use std::sync::Arc;

use anyhow::Result;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::pace::Pace;
use crate::record::{Playback, Recorder};

/// A connection over which texts are spoken.
pub trait Listener: Sized + Send + 'static {
    type Settings: Send + Sync + 'static;

    fn connect(settings: &Self::Settings) -> impl Future<Output = Result<Self>> + Send;

    /// Has the text spoken, reports each chunk to `playback`, and returns the length of the audio.
    fn say(
        &mut self,
        settings: &Self::Settings,
        playback: &mut Playback<'_>,
    ) -> impl Future<Output = Result<std::time::Duration>> + Send;
}

/// Listens from its arrival to the run's end; failures are recorded.
pub async fn run<L: Listener>(
    number: u32,
    settings: Arc<L::Settings>,
    pace: Pace,
    recorder: Arc<Recorder>,
) {
    let until = Instant::from_std(recorder.until());
    let outcome = timeout_at(until, async {
        sleep_until(Instant::from_std(recorder.began() + pace.arrival(number))).await;
        L::connect(&settings).await
    });
    let connection = match outcome.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return recorder.failed(format!("no connection: {error:#}")),
        Err(_) => return recorder.failed("no connection before the end".into()),
    };
    if let Err(error) = listen(connection, number, &settings, &pace, &recorder).await {
        recorder.failed(format!("{error:#}"));
    }
}

async fn listen<L: Listener>(
    mut connection: L,
    number: u32,
    settings: &L::Settings,
    pace: &Pace,
    recorder: &Recorder,
) -> Result<()> {
    let until = Instant::from_std(recorder.until());
    let mut served = false;
    let mut say = 0;
    while Instant::now() < until && (pace.says == 0 || say < pace.says) {
        if let Some(moment) = pace.moment(number, say) {
            let moment = Instant::from_std(recorder.began() + moment);
            if moment >= until {
                break;
            }
            sleep_until(moment).await;
        }
        say += 1;
        let mut playback = Playback::begin(recorder);
        let outcome = timeout_at(until, connection.say(settings, &mut playback)).await;
        if playback.has_started() && !served {
            served = true;
            recorder.served();
        }
        match outcome {
            Ok(Ok(audio)) => playback.end(audio),
            Ok(Err(error)) => return Err(error),
            Err(_) => playback.cut_off(),
        }
    }
    Ok(())
}
