"""``chatterbox-server voice``: voices made without a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_helpers import clip, pitch
from command_helpers import run
from faults_helpers import FAKE
from running_server import HTTP, StartServer


def level(samples: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Root mean square, in decibels of full scale."""
    return 20 * float(np.log10(np.sqrt(np.mean(np.square(samples)))))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two recordings of different rates and levels, one of silence, and two files that are none."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name, hertz, rate, gain in (("1.wav", 220, 16_000, 0.01), ("2.flac", 330, 24_000, 0.9)):
        wave = gain * np.sin(np.arange(2 * rate) * (2 * np.pi * hertz / rate))
        soundfile.write(folder / name, np.pad(wave, rate), rate)
    soundfile.write(folder / "3.wav", np.zeros(16_000), 16_000)
    (folder / "notes.txt").write_text("not audio")
    (folder / "sub").mkdir()
    return folder


def test_voice_is_made_of_folder_of_recordings(server: StartServer, recordings: Path, tmp_path: Path) -> None:
    env = {"VOICES_DIR": str(tmp_path / "voices")}
    clone = ("voice", "clone", "--input_dir", str(recordings), "--output_voice_id", "anna", "--name", "Anna <b>")
    done = run(tmp_path, *clone, env=env)
    assert done.returncode == 0, done.stderr
    words = done.stderr.decode()
    assert "3.wav: left out: it is silent" in words
    assert "notes.txt: left out" in words
    assert "of 2 recordings" in done.stdout.decode()

    samples, rate = soundfile.read(tmp_path / "voices" / "anna.wav")
    assert rate == 24_000
    assert len(samples) / rate == pytest.approx(2 * (2 + 0.1) + 0.2, abs=0.02)
    first, second = samples[6_000:42_000], samples[-42_000:-6_000]
    assert pitch(first, rate) == pytest.approx(220, abs=1)
    assert pitch(second, rate) == pytest.approx(330, abs=1)
    assert level(first) == pytest.approx(-23, abs=0.2)
    assert level(second) == pytest.approx(-23, abs=0.2)

    assert run(tmp_path, *clone, env=env).returncode == 1
    assert run(tmp_path, *clone, "--overwrite", env=env).returncode == 0
    one = server(*FAKE, env=env)
    (voice,) = HTTP.get(one.url + "/api/voices").json()["voices"]
    assert (voice["id"], voice["name"], voice["source"]) == ("anna.wav", "Anna <b>", "voice clone")


@pytest.mark.parametrize("voice_id", ["../anna", "/tmp/anna", ".anna", "a\nb", ""])
def test_ids_stay_inside_folder(recordings: Path, tmp_path: Path, voice_id: str) -> None:
    voices = tmp_path / "voices"
    voices.mkdir()
    env = {"VOICES_DIR": str(voices)}
    done = run(tmp_path, "voice", "clone", "--input_dir", str(recordings), "--output_voice_id", voice_id, env=env)
    assert done.returncode == 1
    assert "must begin with a letter or a digit" in done.stderr.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recordings", "voices"]
    assert not list(voices.iterdir())


def test_folder_without_speech_is_reported(tmp_path: Path) -> None:
    clone = ("voice", "clone", "--output_voice_id", "anna", "--input_dir")
    (tmp_path / "empty").mkdir()
    for folder, problem in (("empty", "no speech"), ("nowhere", "nowhere")):
        done = run(tmp_path, *clone, str(tmp_path / folder), env={"VOICES_DIR": str(tmp_path / "voices")})
        assert done.returncode == 1
        assert problem in done.stderr.decode()


def test_voice_of_any_length_is_cut(tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    for number in range(3):
        (tmp_path / "long" / f"{number}.wav").write_bytes(clip(220, seconds=170.0, rate=8_000))
    clone = ("voice", "clone", "--output_voice_id", "anna", "--input_dir", "long")
    done = run(tmp_path, *clone, env={"VOICES_DIR": str(tmp_path / "voices")})
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path / "voices" / "anna.wav").duration == pytest.approx(300, abs=1)


def test_missing_model_packages_name_install_command(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    (tmp_path / "anna.pth").write_bytes(b"any")
    done = run(tmp_path, "voice", "convert", "anna.pth", env={"PYTHONPATH": str(packages)})
    assert done.returncode == 1
    assert b"No module named 'torch'; run: make install-chatterbox" in done.stderr
