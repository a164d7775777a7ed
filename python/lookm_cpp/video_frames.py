"""Frames of videos, by PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from PIL.Image import Image

from lookm_cpp.image_series import ImageSeries
from lookm_cpp.optional import optional_package
from lookm_cpp.regular_files import path_of, regular_file
from lookm_cpp.sizes import index, number

FPS = 1.0
LEAST_FPS, MOST_FPS = 1e-5, 1e3
MAX_SIDE = 1024
MOST_FRAMES = 20_000
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,gif,mpegvideo,m4v,h264,hevc,ivf,apng"
"""FFmpeg's names of what may be in a file: no text, and no playlists, which name other files."""
SEEK_SECONDS = 4.0
"""A gap between two frames that is skipped rather than decoded."""


def read_video(
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    frames: int | None = None,
    max_side: int = MAX_SIDE,
) -> ImageSeries:
    """Frames of a video, each with its time. Needs PyAV (``pip install av``).

    Args:
        path: The file.
        fps: Frames for each second, the first at the beginning. Default: 1.
        frames: A number of frames in place of ``fps``, spread evenly over the whole; fewer if the
            video does not have as many.
        max_side: Longer frames are scaled down to so many pixels. Default: 1024.

    Returns:
        The frames as JPEG files in memory.

    Raises:
        ImportError: PyAV is not installed.
        FileNotFoundError: The file does not exist.
        ValueError: It is not a video, or an argument is out of range.
    """
    name = f"video {os.fspath(path)!r}"
    file = regular_file(path_of(path, name, "a video file"), name, "a video file")
    if fps is not None and frames is not None:
        raise ValueError(f"fps is {fps} beside frames {frames}, expected one of them")
    rate = number("fps", FPS if fps is None else fps)
    if not LEAST_FPS <= rate <= MOST_FPS:
        raise ValueError(f"fps is {rate:g}, expected {LEAST_FPS:g} to {MOST_FPS:g}")
    if frames is not None and not 1 <= index("frames", frames) <= MOST_FRAMES:
        raise ValueError(f"frames is {frames}, expected 1 to {MOST_FRAMES}")
    if index("max_side", max_side) < 1:
        raise ValueError(f"max_side is {max_side}, expected 1 or more")
    av = optional_package("av", "videos")
    try:
        with av.open(str(file), options={"format_whitelist": FORMATS}) as container:
            if not container.streams.video:
                raise ValueError(f"{name} has no pictures, expected a video file")
            seconds = _seconds(av, container)
            times = _times(seconds, rate, frames, name)
            found = ImageSeries.of(_shown(container, times, seconds, max_side), "JPEG")
    except av.error.FFmpegError as error:
        why = error.strerror
        raise ValueError(f"{name} cannot be read, expected a video file: {why}") from None
    if not found.images:
        raise ValueError(f"{name} has no frame that can be decoded, expected a video file")
    return found


def clock(seconds: float) -> str:
    """A time as players show it.

    >>> clock(7.04), clock(3661.5)
    ('0:07', '1:01:01')
    """
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _times(seconds: float, rate: float, frames: int | None, name: str) -> Iterator[float]:
    """When frames are shown, in seconds from the beginning."""
    if frames is not None:
        if not seconds:
            raise ValueError(f"{name} does not say how long it is, expected fps in place of frames")
        return ((i + 0.5) * seconds / frames for i in range(frames))
    if seconds and seconds * rate > MOST_FRAMES:
        raise ValueError(
            f"fps is {rate:g}, which makes {int(seconds * rate)} frames of {name}; expected at "
            f"most {MOST_FRAMES}"
        )
    return (i / rate for i in range(MOST_FRAMES))


def _seconds(av: Any, container: Any) -> float:
    """How long the video is; 0 if it does not say."""
    stream = container.streams.video[0]
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return float((container.duration or 0) / av.time_base)


def _shown(
    container: Any, times: Iterator[float], seconds: float, max_side: int
) -> Iterator[tuple[str, Image]]:
    """The frame that is seen at each time, none of them twice."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    begin = float((stream.start_time or 0) * stream.time_base)
    wanted = next(times)
    frames = container.decode(stream)
    seen = given = None
    while (frame := next(frames, None)) is not None:
        if frame.time is None:
            continue
        now = frame.time - begin
        if seen is None or now <= wanted + 1e-3:
            seen = frame
            continue
        if seen is not given:
            yield clock(wanted), _image(seen, max_side)
            given = seen
        seen = frame
        for wanted in times:
            if wanted > now - 1e-3:
                break
        else:
            return
        if wanted - now > SEEK_SECONDS:
            container.seek(int((wanted + begin) / stream.time_base), stream=stream)
            frames = container.decode(stream)
            seen = None
    if seen is not given and (wanted < seconds or given is None):
        yield clock(wanted), _image(seen, max_side)


def _image(frame: Any, max_side: int) -> Image:
    image: Image = frame.to_image()
    if getattr(frame, "rotation", 0):
        image = image.rotate(frame.rotation, expand=True)
    image.thumbnail((max_side, max_side))
    return image
