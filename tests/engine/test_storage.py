from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import storage

MOUNTS = r"""
21 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
22 21 0:30 / /dev/shm rw - tmpfs tmpfs rw
23 21 8:1 / /data\040disk rw - xfs /dev/sda1 rw
24 21 8:17 / /ssd rw - xfs /dev/sdb1 rw
25 21 0:45 / /nfs rw - nfs4 server:/export rw
26 21 0:46 / /hub rw - fuse.rclone remote: rw
27 21 0:47 / /over rw - overlay overlay rw,lowerdir=/a
28 21 253:0 / /mapped rw - ext4 /dev/mapper/a rw
29 21 254:0 / /vm rw - ext4 /dev/vda rw
30 25 0:48 / /nfs/local rw - tmpfs tmpfs rw
31 21 0:49 / /lustre rw - lustre mgs:/x rw
32 21 0:50 / /late rw - nfs a:/b rw
33 21 0:51 / /late rw - tmpfs tmpfs rw
broken line
"""


@pytest.fixture
def system(tmp_path: Path) -> tuple[Path, Path]:
    """A /proc and a /sys with four disks, one of them two disks mapped."""
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(MOUNTS)
    (sys / "dev/block").mkdir(parents=True)
    for name, turns, part, number in (
        ("nvme0n1", "0", "nvme0n1p2", "259:2"),
        ("sda", "1", "sda1", "8:1"),
        ("sdb", "0", "sdb1", "8:17"),
        ("vda", "1", None, "254:0"),
        ("dm-0", "0", None, "253:0"),
    ):
        block = sys / "devices" / name
        (block / "queue").mkdir(parents=True)
        (block / "queue/rotational").write_text(f"{turns}\n")
        (block / "slaves").mkdir()
        if part:
            (block / part).mkdir()
            (block / part / "partition").write_text("1\n")
        (sys / "dev/block" / number).symlink_to(block / part if part else block)
    for below in ("nvme0n1/nvme0n1p2", "sdb/sdb1"):
        (sys / "devices/dm-0/slaves" / Path(below).name).symlink_to(sys / "devices" / below)
    return proc, sys


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/models/m", "nvme"),
        ("/dev/shm/m", "memory"),  # noqa: S108  only named
        ("/data disk/m", "disk"),
        ("/ssd", "ssd"),
        ("/nfs/m", "network"),
        ("/nfsother/m", "nvme"),
        ("/nfs/local/m", "memory"),
        ("/hub/m", "network"),
        ("/lustre/m", "network"),
        ("/over/m", "overlay"),
        ("/mapped/m", "ssd"),
        ("/vm/m", "virtual"),
        ("/late/m", "memory"),
    ],
)
def test_a_path_is_read_from_what_its_deepest_and_last_mount_is(
    system: tuple[Path, Path], path: str, kind: str
) -> None:
    assert storage.kind(Path(path), *system) == kind


def test_where_nothing_says_nothing_is_known(tmp_path: Path) -> None:
    assert storage.kind(Path("/models"), tmp_path, tmp_path) is None


def test_this_machine_says_what_its_shared_memory_is() -> None:
    assert storage.kind(Path("/dev/shm")) in ("memory", "overlay")  # noqa: S108  only named


@given(st.text(), st.text())
def test_any_text_can_be_searched_for_a_mount(mountinfo: str, path: str) -> None:
    found = storage.find(mountinfo, path)
    assert found is None or path.startswith(found.point.rstrip("/"))
