//! Pings, and the timeouts after which a socket is closed.

use std::time::Duration;

use axum::extract::ws::Message;
use tokio::time::{Instant, sleep_until};

use crate::state::App;

/// Pings without any sign of life after which a socket is dead.
const MISSED_PINGS: u32 = 2;

/// Sends pings, and decides when the client is no longer there.
pub struct KeepAlive {
    interval: Duration,
    idle_timeout: Duration,
    next_ping: Instant,
    unanswered: u32,
    /// When something was last said, by either side.
    last_activity: Instant,
    /// When a client that plays in real time will have read what it was sent.
    played_until: Instant,
}

pub enum Timeout {
    Ping,
    Idle,
    Dead,
}

impl KeepAlive {
    pub fn new(app: &App) -> Self {
        let (interval, idle_timeout) = (app.limits.ws_ping_interval, app.limits.ws_idle_timeout);
        let now = Instant::now();
        Self {
            interval,
            idle_timeout,
            next_ping: now + interval,
            unanswered: 0,
            last_activity: now,
            played_until: now,
        }
    }

    pub fn message_received(&mut self, message: &Message) {
        self.unanswered = 0;
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            self.active();
        }
    }

    fn active(&mut self) {
        self.last_activity = Instant::now();
    }

    /// So many seconds of audio leave. A client that plays it in real time reads what comes after it that much later.
    pub fn audio_sent(&mut self, seconds: f64) {
        self.active();
        let begin = self.played_until.max(self.last_activity);
        self.played_until = begin + Duration::from_secs_f64(seconds);
    }

    pub async fn next(&self, idle: bool) {
        let idle_at = self.last_activity + self.idle_timeout;
        let at = if idle {
            self.next_ping.min(idle_at)
        } else {
            self.next_ping
        };
        sleep_until(at).await;
    }

    /// `blocked`: messages wait for the client to read.
    pub fn expired(&mut self, idle: bool, blocked: bool) -> Timeout {
        let now = Instant::now();
        if idle && now >= self.last_activity + self.idle_timeout {
            return Timeout::Idle;
        }
        if blocked || self.played_until > now + self.interval {
            // The pings lie behind audio. Whether it is read at all, the stall timeout decides.
            self.unanswered = 0;
        }
        if self.unanswered >= MISSED_PINGS {
            return Timeout::Dead;
        }
        self.unanswered += 1;
        self.next_ping = now + self.interval;
        Timeout::Ping
    }
}
