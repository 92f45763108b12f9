"""Changes of files: noticed once, when they have come to rest."""

from __future__ import annotations

import os
from pathlib import Path

from sidecar.processes.watch import Watch


def test_a_change_is_told_once_it_rests(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    watch = Watch([one, other])
    assert not watch.changed()
    one.write_text("12")
    assert not watch.changed()  # it may go on
    other.write_text("new")
    assert not watch.changed()
    assert watch.changed()
    assert not watch.changed()


def test_what_was_changed_back_has_not_changed(tmp_path: Path) -> None:
    one = tmp_path / "one"
    watch = Watch([one])
    one.write_text("1")
    assert not watch.changed()
    one.unlink()
    assert not watch.changed()
    assert not watch.changed()


def test_a_file_of_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    one, new = tmp_path / "one", tmp_path / "new"
    one.write_text("1")
    new.write_text("2")
    os.utime(new, ns=(one.stat().st_atime_ns, one.stat().st_mtime_ns))
    watch = Watch([one])
    new.rename(one)
    assert [watch.changed(), watch.changed()] == [False, True]


def test_a_link_above_that_is_swapped(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    link = tmp_path / "data"
    link.symlink_to("1")
    watch = Watch([link / "file"])
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(link)
    assert [watch.changed(), watch.changed()] == [False, True]


def test_a_change_while_others_are_taken_up_is_not_lost(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    watch = Watch([one])
    watch.settle()
    one.write_text("changed while it was read")
    watch.follow([one, other])
    assert [watch.changed(), watch.changed()] == [False, True]
