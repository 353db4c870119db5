"""
The command line of FFmpeg for a ladder.

Every option is there for a reason that was measured with FFmpeg 5.1 and 9: exact presentation times, keyframes at the
source's keyframes and nowhere else, and pictures that come back at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from rapidrtmp.media import AudioConfig, Track
from rapidrtmp.transcode.encoders import LIBX264, Encoder
from rapidrtmp.transcode.rungs import RungSize

__all__ = ["FIRST_OUTPUT", "make_audio_command", "make_command", "make_environment"]

#: The file descriptor of the first rung's output; the others follow.
FIRST_OUTPUT = 3
NICENESS = 5
#: What the child may know of our environment: where drivers and libraries are.
_PASSED_ON = ("LD_LIBRARY_PATH", "LIBVA_DRIVER_NAME", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")

#: Few frames are looked at before it begins, the decoder holds none back for other threads, and times stay.
_INPUT = "-probesize 32 -analyzeduration 0 -threads 1 -copyts -f mp4 -i pipe:0"
_QUIET = "-hide_banner -nostdin -loglevel warning"
#: A picture out for each one in; the clock of the encoder is ours: else 5.1 puts times on a grid of its own.
_TIMES = "-fps_mode passthrough -enc_time_base 1:90000"
#: Keyframes where the source has some, and nowhere else.
_KEYFRAMES = "-g 9999 -force_key_frames source"
#: Without "disabled" times begin at 0, whatever they were. Milliseconds do, and no fragment waits for the next picture.
_FLV = "-avoid_negative_ts disabled -f flv -flvflags no_duration_filesize -flush_packets 1"
#: FLV cannot say that a picture is decoded before time begins, so pictures that wait for others come back in fragments.
_MP4_AUDIO = (
    "-avoid_negative_ts disabled -f mp4 -movflags empty_moov+default_base_moof+frag_every_frame+frag_discont+delay_moov"
    " -use_editlist 0"
)
_MP4 = f"{_MP4_AUDIO} -video_track_timescale 90000"
#: The rates that all players have, and bits a second for each channel.
_AAC_RATES, _AAC_BITRATE = (22_050, 24_000, 32_000, 44_100, 48_000), 64_000


#: From HDR, by its transfer characteristics, to what H.264 is shown as everywhere.
_TRANSFERS = {16: "smpte2084", 18: "arib-std-b67"}
_TONES = (
    "setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc:range=tv,zscale=t=linear:npl=100,"
    "format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)


def make_command(
    ffmpeg: str,
    sizes: Sequence[RungSize],
    preset: str,
    encoder: Encoder = LIBX264,
    b_frames: int = 0,
    *,
    transfer: int = 0,
) -> list[str]:
    """
    The program and its arguments: fMP4 on standard input, each rung on a file descriptor of its own, as FLV, or with
    B-frames as fMP4.

    :param sizes: one at least.
    :param preset: of libx264.
    :param b_frames: so many in a row, at most.
    :param transfer: the transfer characteristics of HDR that is mapped (H.273); 0 for what is shown as it is.
    """
    tones = _TONES.format(transfer=_TRANSFERS[transfer]) if transfer else ""
    output = _MP4 if b_frames else _FLV
    command = [*_wrapping(), ffmpeg, *_QUIET.split(), *encoder.before.split(), *_INPUT.split()]
    command += ["-filter_complex_threads", "1", "-filter_complex", _filter(sizes, tones, encoder.upload)]
    for index, size in enumerate(sizes):
        rate = str(size.rung.bitrate)
        command += ["-map", f"[v{index}]", "-an", "-c:v", encoder.name, *encoder.with_b_frames(b_frames)]
        command += ["-preset", preset, "-threads", _threads(size)] if encoder is LIBX264 else []
        command += ["-pix_fmt", encoder.pixel_format] if encoder.pixel_format else []
        command += [*_TIMES.split(), *_KEYFRAMES.split()]
        command += ["-b:v", rate, "-maxrate", rate, "-bufsize", rate, *output.split(), f"pipe:{FIRST_OUTPUT + index}"]
    return command


def make_audio_command(ffmpeg: str, track: Track) -> list[str]:
    """
    The program and its arguments: one track of audio on standard input, and AAC, as fMP4, on the first output.

    :param track: what is coded; more than two channels are mixed down, for all players have stereo.
    """
    assert isinstance(track.config, AudioConfig)
    rate = track.config.sample_rate if track.config.sample_rate in _AAC_RATES else 48_000
    channels = min(track.config.channels, 2) or 2
    command = [*_wrapping(), ffmpeg, *_QUIET.split(), *_INPUT.split(), "-map", "0:a", "-c:a", "aac"]
    command += ["-b:a", str(channels * _AAC_BITRATE), "-ac", str(channels), "-ar", str(rate)]
    return [*command, *_MP4_AUDIO.split(), f"pipe:{FIRST_OUTPUT}"]


def _wrapping() -> list[str]:
    """
    The server's own work comes before that of its children, and none outlives it: one that is stopped would not notice
    that its standard input is closed.
    """
    wrapping = []
    setpriv, nice = shutil.which("setpriv"), shutil.which("nice")
    if setpriv:
        wrapping += [setpriv, "--pdeathsig", "KILL"]
    if nice:
        wrapping += [nice, "-n", str(NICENESS)]
    return wrapping


def _filter(sizes: Sequence[RungSize], *further: str) -> str:
    """Decode once, scale for each rung."""
    behind = "".join(f",{each}" for each in further if each)
    split = "".join(f"[s{index}]" for index in range(len(sizes)))
    scaled = [
        f"[s{index}]scale={size.width}:{size.height},setsar=1{behind}[v{index}]" for index, size in enumerate(sizes)
    ]
    return ";".join([f"[0:v]split={len(sizes)}{split}", *scaled])


def _threads(size: RungSize) -> str:
    """One does for most; a large picture is coded in slices by two."""
    return "2" if size.width * size.height > 1_000_000 else "1"


def make_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What the child knows of our environment."""
    return {name: ours[name] for name in _PASSED_ON if name in ours}
