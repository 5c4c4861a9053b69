//! Joining utterances that were synthesised one by one, so that they sound like one speaker reading on.
//!
//! A model leaves an arbitrary stretch of near silence before and after what it speaks. The joiner finds where speech
//! begins and ends by the energy of short windows, and replaces that stretch by a pause of the wanted length.

use std::f32::consts::PI;

/// The length of a window, and of every fade: 1/200 s, that is 5 ms.
const WINDOWS_PER_SECOND: u32 = 200;
/// The mean square below which a window is quiet: -50 dB of full scale.
const QUIET_POWER: f32 = 1e-5;
/// The most near silence kept before the first speech of all.
const FIRST_LEAD_MS: u32 = 50;
/// The part of a pause that is taken from before the next utterance, where a soft onset may hide.
const LEAD_MS: u32 = 30;
/// The shortest pause: a fade out and a fade in.
const SHORTEST_PAUSE_MS: u32 = 2 * 1000 / WINDOWS_PER_SECOND;
/// The most near silence kept after the last speech of all.
const LAST_TAIL_MS: u32 = 150;
/// The most near silence held back while it might be an utterance's end.
const LONGEST_HELD_MS: u32 = 2000;

/// Puts utterances in a row, with pauses of a given length from speech to speech.
///
/// Samples inside an utterance are never changed, apart from a fade of 5 ms where it is cut or meets silence. What may
/// still be an utterance's end (up to 10 ms of speech, and near silence after it) is held back until more speech or the
/// end comes, but no more than 2 s: what goes beyond that is let through.
#[derive(Debug)]
pub struct Joiner {
    sample_rate: u32,
    window: usize,
    lead: Lead,
    phase: Phase,
    held: Vec<f32>,
    /// The samples at the end of `held` that do not make a whole window yet.
    pending: usize,
}

/// How much near silence the next speech has before it.
#[derive(Clone, Copy, Debug)]
enum Lead {
    /// The first speech of all: its own, up to this many samples.
    AtMost(usize),
    /// After a pause: exactly this many samples, filled up with zeros.
    Exactly(usize),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// No speech yet in this utterance: `held` is the latest near silence.
    Before { cut: bool },
    /// `held` begins with `speech` samples of the latest speech; the rest is near silence.
    After {
        speech: usize,
        /// Near silence since that speech that has gone out already.
        let_through: usize,
    },
}

impl Joiner {
    /// A joiner for samples at `sample_rate` hertz.
    pub fn new(sample_rate: u32) -> Self {
        Self {
            sample_rate,
            window: (sample_rate / WINDOWS_PER_SECOND).max(1) as usize,
            lead: Lead::AtMost(samples_in(FIRST_LEAD_MS, sample_rate)),
            phase: Phase::Before { cut: false },
            held: Vec::new(),
            pending: 0,
        }
    }

    /// Takes samples of the current utterance and returns what is sure to stay.
    pub fn push(&mut self, samples: &[f32]) -> Vec<f32> {
        let mut output = Vec::new();
        let mut rest = samples;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.window - self.pending));
            rest = later;
            self.held.extend_from_slice(now);
            self.pending += now.len();
            if self.pending == self.window {
                self.classify(&mut output);
            }
        }
        output
    }

    /// Ends the current utterance when another will follow; returns its rest and the first part of the pause.
    ///
    /// Between its last speech and the next one's first lie `pause_ms` milliseconds: at least 10 for the fades, and
    /// more if more was let through already. An utterance without any speech is left out, with its pause.
    pub fn end_utterance(&mut self, pause_ms: u32) -> Vec<f32> {
        let mut output = Vec::new();
        self.classify(&mut output);
        if let Phase::After {
            speech,
            let_through,
        } = self.phase
        {
            let pause = samples_in(pause_ms.max(SHORTEST_PAUSE_MS), self.sample_rate);
            let lead = (pause / 2).min(samples_in(LEAD_MS, self.sample_rate));
            let tail = (pause - lead).saturating_sub(let_through);
            let quiet = self.held.len() - speech;
            self.held.truncate(speech + tail.max(self.window));
            self.fade_out();
            output.append(&mut self.held);
            output.resize(output.len() + tail.saturating_sub(quiet), 0.0);
            self.lead = Lead::Exactly(lead);
        }
        self.held.clear();
        self.phase = Phase::Before { cut: false };
        output
    }

    /// Ends the last utterance; returns its rest, with at most 150 ms of near silence after the last speech.
    ///
    /// If there was no speech at all, this is the end of the near silence. Resets the state.
    pub fn finish(&mut self) -> Vec<f32> {
        let mut output = Vec::new();
        self.classify(&mut output);
        match (self.phase, self.lead) {
            (
                Phase::After {
                    speech,
                    let_through,
                },
                _,
            ) => {
                let tail = samples_in(LAST_TAIL_MS, self.sample_rate).saturating_sub(let_through);
                let end = speech + tail.max(self.window);
                if self.held.len() > end || self.held.len() == speech {
                    self.held.truncate(end);
                    self.fade_out();
                }
                output.append(&mut self.held);
            }
            (Phase::Before { cut }, Lead::AtMost(_)) => {
                if cut {
                    self.fade_in();
                }
                output.append(&mut self.held);
            }
            // An utterance without speech after others: they have their tail already.
            (Phase::Before { .. }, Lead::Exactly(_)) => {}
        }
        *self = Self::new(self.sample_rate);
        output
    }

    /// Takes the pending window into account, which is a whole one except at an utterance's end.
    fn classify(&mut self, output: &mut Vec<f32>) {
        let window = &self.held[self.held.len() - self.pending..];
        let energy: f32 = window.iter().map(|sample| sample * sample).sum();
        let loud = energy > QUIET_POWER * window.len() as f32;
        let count = std::mem::take(&mut self.pending);
        match &mut self.phase {
            Phase::Before { cut } => {
                let (Lead::AtMost(longest) | Lead::Exactly(longest)) = self.lead;
                let quiet = self.held.len() - if loud { count } else { 0 };
                let excess = quiet.saturating_sub(longest);
                self.held.drain(..excess);
                *cut |= excess > 0;
                if loud {
                    let cut = *cut;
                    self.open(quiet - excess, cut, output);
                }
            }
            Phase::After {
                speech,
                let_through,
            } if !loud => {
                let longest = *speech + samples_in(LONGEST_HELD_MS, self.sample_rate);
                let excess = self.held.len().saturating_sub(longest);
                output.extend(self.held.drain(..excess));
                *let_through += excess.saturating_sub(*speech);
                *speech = speech.saturating_sub(excess);
            }
            Phase::After { .. } => {}
        }
        if loud {
            // A window's worth stays, so that it can be faded if this turns out to be the end.
            let sure = self.held.len().saturating_sub(self.window);
            output.extend(self.held.drain(..sure));
            self.phase = Phase::After {
                speech: self.held.len(),
                let_through: 0,
            };
        }
    }

    /// Begins an utterance whose speech is found, `held` being `quiet` samples of its lead and the first of its speech.
    fn open(&mut self, quiet: usize, cut: bool, output: &mut Vec<f32>) {
        if let Lead::Exactly(lead) = self.lead {
            output.resize(output.len() + lead - quiet, 0.0);
            self.fade_in();
        } else if cut || quiet == 0 {
            self.fade_in();
        }
    }

    fn fade_in(&mut self) {
        let length = self.window.min(self.held.len());
        fade(self.held.iter_mut().take(length), length);
    }

    fn fade_out(&mut self) {
        let length = self.window.min(self.held.len());
        fade(self.held.iter_mut().rev().take(length), length);
    }
}

fn samples_in(milliseconds: u32, sample_rate: u32) -> usize {
    (u64::from(milliseconds) * u64::from(sample_rate) / 1000) as usize
}

/// Scales samples by a raised cosine, rising from 0 to 1 over `length` samples.
fn fade<'a>(samples: impl Iterator<Item = &'a mut f32>, length: usize) {
    for (index, sample) in samples.enumerate() {
        let part = (index as f32 + 0.5) / length as f32;
        *sample *= 0.5 - 0.5 * (PI * part).cos();
    }
}

#[cfg(test)]
mod tests;
