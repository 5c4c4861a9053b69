"""S3Gen: speech tokens to a mel spectrogram by flow matching, and the HiFT vocoder from there to samples."""
