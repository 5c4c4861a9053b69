//! Previews of voices: the beginning of the clip.

use super::{Material, Voice, VoiceError, VoiceStore};
use chatterbox_audio::decode::Limits;

/// As much as the models listen to first, and enough to tell one voice from another.
const SECONDS: f64 = 10.0;
/// The end is faded over this long, so that it does not click.
const FADE_SECONDS: f64 = 0.05;

impl VoiceStore {
    /// The first ten seconds of a voice's clip, as a WAV file at the clip's own rate.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]; [`VoiceError::NoClip`] for a voice that was converted from a model file.
    pub fn preview(&self, voice: &Voice) -> Result<Vec<u8>, VoiceError> {
        let limits = Limits {
            enough_seconds: Some(SECONDS),
            ..self.limits.decode
        };
        let Material::Clip(clip) = self.load_within(voice, &limits)? else {
            return Err(VoiceError::NoClip);
        };
        let rate = f64::from(clip.sample_rate);
        let length = ((SECONDS * rate) as usize).min(clip.samples.len());
        let mut samples = clip.samples[..length].to_vec();
        if length < clip.samples.len() {
            let fade = (FADE_SECONDS * rate) as usize;
            for (n, sample) in samples.iter_mut().rev().take(fade).enumerate() {
                *sample *= n as f32 / fade as f32;
            }
        }
        Ok(chatterbox_audio::clip_file(&samples, clip.sample_rate))
    }
}
