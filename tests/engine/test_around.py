from __future__ import annotations

import re
from pathlib import Path

from fleetbench.engine import around
from fleetbench.engine.runtime import Mount


def test_a_hubs_snapshot_brings_the_blobs_that_its_links_lead_to(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "rev"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "abc").touch()
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    (snapshot / "config.json").touch()
    assert around.seen(snapshot) == [Mount(source=blobs), Mount(source=snapshot)]


def test_a_link_over_links_brings_each_folder_as_its_text_names_it(tmp_path: Path) -> None:
    real, named, model = tmp_path / "real", tmp_path / "named", tmp_path / "model"
    for folder in (real, model, tmp_path / "far"):
        folder.mkdir()
    named.symlink_to(real)
    (tmp_path / "far" / "file").touch()
    (real / "hop").symlink_to(tmp_path / "far" / "file")
    (model / "weights").symlink_to(named / "hop")
    assert [mount.source for mount in around.seen(model)] == [tmp_path / "far", model, named]


def test_a_folder_without_links_out_of_it_is_enough_by_itself(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").touch()
    (tmp_path / "sub/b").symlink_to("../a")
    (tmp_path / "nowhere").symlink_to("/no/such/file")
    (tmp_path / "loop").symlink_to("loop")
    assert around.seen(tmp_path) == [Mount(source=tmp_path)]


def test_a_file_is_seen_where_it_really_lies(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    (tmp_path / "link.gguf").symlink_to("m.gguf")
    assert around.seen(tmp_path / "link.gguf") == [Mount(source=tmp_path / "m.gguf")]


def test_this_boots_processes_have_a_name_that_stays() -> None:
    assert around.home() == around.home()
    assert re.fullmatch(r"[0-9a-f-]{36}\.\d+", around.home())
