//! Tells how far the loading of the models is: a bar for a person at a terminal, lines in the log for everybody else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tracing::info;

use crate::telemetry;
use chatterbox_engine::{EngineState, EngineStatus, Progress};

/// Least time between two lines about the same thing.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Reports until the engine is loaded or has failed.
pub async fn report(status: &EngineStatus) {
    let mut progress = status.progress();
    let mut life = status.subscribe();
    let mut teller = Teller::new();
    let loaded = life.wait_for(|state| !matches!(state, EngineState::Loading));
    tokio::pin!(loaded);
    loop {
        tokio::select! {
            // First: the last that was told is not to be lost.
            biased;
            changed = progress.changed() => {
                let told = progress.borrow_and_update().clone();
                match (changed, told) {
                    (Ok(()), Some(told)) => teller.tell(&told),
                    _ => break,
                }
            }
            _ = &mut loaded => break,
        }
    }
    teller.finish();
}

enum Teller {
    Bar(ProgressBar),
    Lines(Lines),
}

impl Teller {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} %");
        match style {
            Ok(style) if telemetry::at_a_terminal() => {
                Self::Bar(telemetry::shown(ProgressBar::new(0).with_style(style)))
            }
            _ => Self::Lines(Lines::default()),
        }
    }

    fn tell(&mut self, progress: &Progress) {
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

/// When each thing was last told of, and whether that was its end.
#[derive(Default)]
struct Lines(HashMap<String, (Instant, bool)>);

impl Lines {
    /// The start, the end, and now and then in between.
    fn due(&mut self, progress: &Progress, now: Instant) -> bool {
        let ended = progress.total > 0 && progress.done >= progress.total;
        let due = match self.0.get(&progress.what) {
            None => true,
            Some((_, true)) => false,
            Some((told, false)) => ended || now.duration_since(*told) >= LINE_EVERY,
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
    fn a_line_at_the_start_the_end_and_every_ten_seconds() {
        let began = Instant::now();
        let mut lines = Lines::default();
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
        assert!(due("b", 0, 9), "each thing has a clock of its own");
        assert!(due("a", 20, 10));
        assert!(!due("a", 30, 19));
        assert!(due("a", 100, 19));
        assert!(!due("a", 100, 60));
    }

    #[test]
    fn what_has_no_known_size_has_no_end() {
        let mut lines = Lines::default();
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
