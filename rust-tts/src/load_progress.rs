//! Reports the loading of the models: a progress bar at a terminal, lines in the log elsewhere.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tracing::info;

use crate::telemetry;
use chatterbox_engine::{EngineState, EngineStatus, Progress};

/// Least time between two lines about one item.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Reports until the engine is loaded or has failed.
pub async fn report(status: &EngineStatus) {
    let mut progress = status.progress();
    let mut state = status.subscribe();
    let mut reporter = ProgressReporter::new();
    let loaded = state.wait_for(|now| !matches!(now, EngineState::Loading));
    tokio::pin!(loaded);
    loop {
        tokio::select! {
            // First, so that the last progress is reported before the end.
            biased;
            changed = progress.changed() => {
                let latest = progress.borrow_and_update().clone();
                match (changed, latest) {
                    (Ok(()), Some(latest)) => reporter.update(&latest),
                    _ => break,
                }
            }
            _ = &mut loaded => break,
        }
    }
    reporter.finish();
}

enum ProgressReporter {
    Bar(ProgressBar),
    Lines(LineTimes),
}

impl ProgressReporter {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} %");
        match style {
            Ok(style) if telemetry::shows_progress() => {
                Self::Bar(telemetry::shown(ProgressBar::new(0).with_style(style)))
            }
            _ => Self::Lines(LineTimes::default()),
        }
    }

    fn update(&mut self, progress: &Progress) {
        let Progress { what, done, total } = progress;
        match self {
            Self::Bar(bar) => {
                // The message last: each of these may draw.
                bar.set_length(*total);
                bar.set_position(*done);
                bar.set_message(what.clone());
            }
            Self::Lines(lines) => {
                if lines.due(progress, Instant::now()) {
                    info!(what, done, total, "loading");
                }
            }
        }
    }

    fn finish(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// When each item was last logged, and whether that was its end.
#[derive(Default)]
struct LineTimes(HashMap<String, (Instant, bool)>);

impl LineTimes {
    /// The start, the end, and now and then in between.
    fn due(&mut self, progress: &Progress, now: Instant) -> bool {
        let ended = progress.total > 0 && progress.done >= progress.total;
        let due = match self.0.get(&progress.what) {
            None => true,
            Some((_, true)) => false,
            Some((logged, false)) => ended || now.duration_since(*logged) >= LINE_INTERVAL,
        };
        if due {
            self.0.insert(progress.what.clone(), (now, ended));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_loading_is_logged_at_start_end_and_every_ten_seconds() {
        let began = Instant::now();
        let mut lines = LineTimes::default();
        let mut due = |what: &str, done, seconds| {
            let what = what.to_owned();
            let progress = Progress {
                what,
                done,
                total: 100,
            };
            lines.due(&progress, began + Duration::from_secs(seconds))
        };
        assert!(due("a", 0, 0));
        assert!(!due("a", 10, 9));
        assert!(due("b", 0, 9), "each item has its own interval");
        assert!(due("a", 20, 10));
        assert!(!due("a", 30, 19));
        assert!(due("a", 100, 19));
        assert!(!due("a", 100, 60));
    }

    #[test]
    fn test_loading_of_unknown_size_has_no_percentage() {
        let mut lines = LineTimes::default();
        let progress = Progress {
            what: "a".into(),
            done: 5,
            total: 0,
        };
        let now = Instant::now();
        assert!(lines.due(&progress, now));
        assert!(!lines.due(&progress, now));
    }
}
