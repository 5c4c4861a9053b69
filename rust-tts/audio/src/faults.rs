//! Encoders that fail where a test wants them to. Not built into the server.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{EncodeError, Encoder};

/// The points at which encoders can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The codec cannot be set up.
    New,
    Head,
    /// At the frame of 20 ms with this number.
    Frame(u64),
    Finish,
}

static FAULT: Mutex<Option<Fault>> = Mutex::new(None);
static TURN: Mutex<()> = Mutex::new(());

/// Encoders fail for as long as this lives.
pub struct FaultGuard {
    _turn: MutexGuard<'static, ()>,
}

/// Makes every encoder of the process that is made from now on fail at `fault`. One test at a time.
pub fn inject(fault: Fault) -> FaultGuard {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    set(Some(fault));
    FaultGuard { _turn: turn }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        set(None);
    }
}

fn set(fault: Option<Fault>) {
    *FAULT.lock().unwrap_or_else(PoisonError::into_inner) = fault;
}

/// `encoder` with the fault that is injected now, if any.
pub(crate) fn apply(
    encoder: Box<dyn Encoder>,
    sample_rate: u32,
) -> Result<Box<dyn Encoder>, EncodeError> {
    let fault = *FAULT.lock().unwrap_or_else(PoisonError::into_inner);
    match fault {
        None => Ok(encoder),
        Some(Fault::New) => Err(injected()),
        Some(fault) => Ok(Box::new(FaultyEncoder {
            encoder,
            fault,
            samples: 0,
            frame_samples: u64::from(sample_rate) / 50,
        })),
    }
}

fn injected() -> EncodeError {
    EncodeError::new("test", "injected fault")
}

struct FaultyEncoder {
    encoder: Box<dyn Encoder>,
    fault: Fault,
    samples: u64,
    frame_samples: u64,
}

fn fail_if(faulty: bool) -> Result<(), EncodeError> {
    if faulty { Err(injected()) } else { Ok(()) }
}

impl Encoder for FaultyEncoder {
    fn head(&mut self) -> Result<Vec<u8>, EncodeError> {
        fail_if(self.fault == Fault::Head)?;
        self.encoder.head()
    }

    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        self.samples += samples.len() as u64;
        let reached = self.samples / self.frame_samples;
        fail_if(matches!(self.fault, Fault::Frame(number) if reached > number))?;
        self.encoder.push(samples)
    }

    fn finish(&mut self) -> Result<Vec<u8>, EncodeError> {
        fail_if(self.fault == Fault::Finish)?;
        self.encoder.finish()
    }

    fn trailer(&self) -> Vec<u8> {
        self.encoder.trailer()
    }
}
