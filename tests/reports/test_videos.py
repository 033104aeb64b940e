"""Videos appear whole or not at all, whatever the encoder says of it."""

from pathlib import Path

import av
import numpy as np
import pytest

from moegs_ns.reports.videos import count_frames, whole_video


def write_video(path: Path, num_frames: int = 5) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for number in range(num_frames):
            image = np.full((32, 32, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def test_a_whole_video_gets_its_name(tmp_path: Path):
    path = tmp_path / "new" / "video.mp4"
    with whole_video(path, 5) as temporary:
        write_video(temporary)
        assert not path.exists()
    assert count_frames(path) == 5 and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 300, -100])
def test_a_full_disk_leaves_no_broken_video(tmp_path: Path, size: int):
    """Encoders end well though only the beginning is on the disk."""
    path = tmp_path / "video.mp4"
    path.write_text("an earlier one")
    with (
        pytest.raises(OSError, match=r"cannot be written \(it has \d of 5 frames\); make room"),
        whole_video(path, 5) as temporary,
    ):
        write_video(temporary)
        temporary.write_bytes(temporary.read_bytes()[:size])
    assert path.read_text() == "an earlier one" and list(tmp_path.iterdir()) == [path]


def test_fewer_frames_than_were_rendered(tmp_path: Path):
    with (
        pytest.raises(OSError, match="it has 4 of 5 frames"),
        whole_video(tmp_path / "video.mp4", 5) as temporary,
    ):
        write_video(temporary, 4)


def test_what_an_encoder_says_is_told_in_one_sentence(tmp_path: Path):
    said = "Error writing 'video.mp4': av_interleaved_write_frame(): No space left\nmore"
    with (
        pytest.raises(OSError, match=r"No space left\); make room, or name another --output"),
        whole_video(tmp_path / "video.mp4", 5),
    ):
        raise RuntimeError(said)


@pytest.mark.parametrize("error", [RuntimeError("of the model"), KeyboardInterrupt, SystemExit(1)])
def test_other_errors_are_told_as_they_are(tmp_path: Path, error):
    with (
        pytest.raises(type(error) if isinstance(error, BaseException) else error) as raised,
        whole_video(tmp_path / "video.mp4", 5) as temporary,
    ):
        temporary.write_text("half")
        raise error
    assert "cannot be written" not in str(raised.value) and not list(tmp_path.iterdir())
