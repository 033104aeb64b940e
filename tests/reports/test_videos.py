"""Videos appear whole or not at all, whatever the encoder says of it."""

from pathlib import Path

import av
import numpy as np
import pytest

from moegs_ns.reports.videos import FrameFolder, count_frames, encode, whole_video


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


def pictures(folder: FrameFolder, count: int, size: tuple[int, int] = (33, 47)) -> None:
    for index in range(count):
        folder.write(index, np.full((*size, 3), 40 * index, np.uint8))


def test_frames_become_a_video_that_browsers_show(tmp_path: Path):
    folder, video = FrameFolder(tmp_path / "frames"), tmp_path / "video.mp4"
    folder.begin({"a": 1}, is_ours=False)
    pictures(folder, 5)
    encode([folder.path(index) for index in range(5)], video, 12.5)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 12.5
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (34, 48, 3), "even sizes, nothing cut off"
    assert [round(float(f.mean()) / 40) for f in frames] == [0, 1, 2, 3, 4]
    # Played before it is read to its end: the index comes first.
    content = video.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_frames_of_another_rendering(tmp_path: Path):
    folder = FrameFolder(tmp_path / "frames")
    folder.begin({"a": 1}, is_ours=False)
    pictures(folder, 2)
    folder.begin({"a": 1}, is_ours=False)
    assert folder.missing(4) == [2, 3]
    with pytest.raises(ValueError, match=r"holds others; name another --output, or delete it"):
        folder.begin({"a": 2}, is_ours=False)
    folder.begin({"a": 2}, is_ours=True)
    assert folder.missing(2) == [0, 1]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path):
    (tmp_path / "photo.png").write_text("mine")
    for is_ours in (True, False):
        with pytest.raises(ValueError, match="holds others"):
            FrameFolder(tmp_path).begin({}, is_ours=is_ours)
    assert (tmp_path / "photo.png").read_text() == "mine"
