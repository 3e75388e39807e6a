"""Published weights onto the disk: verified, readable, under their name, from the web or a mirror folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
import torch
from tiny_checkpoints import refused
from tiny_server import QUICK, Web, serve

from criteria.weights import hub_weights
from psp.errors import UserError
from psp.weights.download.published import fetch, verify
from psp.weights.download.transfer import Busy
from psp.weights.formats import read_weights
from psp.weights.places import Published, find_weights, is_published, locate, read_manifest, weight_folders
from scripts import fetch_pretrained


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "PSP_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small generator as a file."""
    path = tmp_path_factory.mktemp("w") / "g.pt"
    torch.save({"g_ema": tiny.generator().state_dict()}, path)
    return path.read_bytes()


@pytest.fixture
def web(weights: bytes) -> Iterator[Web]:
    with serve(Web(weights)) as made:
        yield made


def entry(web: Web, *paths: str, **more: Any) -> Published:
    urls = tuple(web.url + path for path in paths)
    return Published("g.pt", "test", urls, "MIT", "here", **more)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---- a published file --------------------------------------------------------------------------------


def test_fetched_verified_and_under_its_name(web: Web, tmp_path: Path) -> None:
    wanted = entry(web, "/moved", size=len(web.body), sha256=sha(web.body))
    said: list[str] = []
    path = fetch(wanted, tmp_path / "new" / "folder", patience=QUICK, read=read_weights, say=said.append)
    assert path.read_bytes() == web.body and os.listdir(path.parent) == ["g.pt"] and said == []
    asked = len(web.asked)
    assert fetch(wanted, path.parent, say=said.append) == path and len(web.asked) == asked
    assert said == ["there already"]
    path.write_bytes(b"?" + web.body[1:])
    message = refused(lambda: fetch(wanted, path.parent))
    assert "sha256" in message and "--overwrite" in message and path.exists()
    assert fetch(wanted, path.parent, overwrite=True, patience=QUICK).read_bytes() == web.body


def test_wrong_hashes_are_removed(web: Web, tmp_path: Path) -> None:
    md5 = hashlib.md5(web.body, usedforsecurity=False).hexdigest()[:8]
    wrong: tuple[dict[str, Any], ...] = (
        {"sha256": "0" * 64}, {"prefixes": (("sha256", "00000000"),)}, {"prefixes": (("md5", "00000000"),)},
    )  # fmt: skip
    for more in wrong:
        message = refused(lambda more=more: fetch(entry(web, "/good", **more), tmp_path, patience=QUICK))
        assert "00000000" in message and "published" in message and os.listdir(tmp_path) == []
    for more in ({"prefixes": (("md5", md5),)}, {"prefixes": (("sha256", sha(web.body)[:8]),)}):
        fetch(entry(web, "/good", **more), tmp_path, overwrite=True, patience=QUICK)
    assert "8 bytes, 9 are" in refused(lambda: verify(_file(tmp_path / "s", b"x" * 8), entry(web, size=9)))


def test_hashes_of_unpublished_files_are_said(web: Web, tmp_path: Path) -> None:
    for seen, words in (((sha(web.body), len(web.body)), "equals"), ((sha(b""), 3), "differs")):
        said: list[str] = []
        fetch(entry(web, "/good", seen=seen), tmp_path, overwrite=True, patience=QUICK, say=said.append)
        assert sha(web.body) in said[0] and words in said[1]


def test_what_is_no_weights_file_keeps_its_part(web: Web, tmp_path: Path) -> None:
    web.body = b"no weights at all" * 9
    message = refused(lambda: fetch(entry(web, "/good"), tmp_path, read=read_weights, patience=QUICK))
    assert "not readable as weights" in message and (tmp_path / "g.pt.part").read_bytes() == web.body
    said: list[str] = []
    published = entry(web, "/good", sha256=sha(web.body))
    fetch(published, tmp_path, read=read_weights, patience=QUICK, say=said.append)
    assert (tmp_path / "g.pt").exists() and "cannot be read here" in said[-1]


def test_a_file_that_is_being_verified_belongs_to_its_process(web: Web, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    wanted = entry(web, "/good", sha256=sha(web.body))

    def another(part: Path) -> None:
        with pytest.raises(Busy):
            fetch(wanted, tmp_path, patience=QUICK)
        with pytest.raises(Busy):
            fetch(wanted, tmp_path, mirror=tmp_path / "elsewhere")

    _file(tmp_path / "elsewhere" / "g.pt", web.body)
    assert fetch(wanted, tmp_path, patience=QUICK, read=another).read_bytes() == web.body


def test_another_address_when_the_first_fails(web: Web, tmp_path: Path) -> None:
    said: list[str] = []
    fetch(entry(web, "/page", "/missing", "/good"), tmp_path, patience=QUICK, say=said.append)
    assert [line.endswith("trying the next address") for line in said] == [True, True, False]
    assert (tmp_path / "g.pt").read_bytes() == web.body
    assert "HTTP 404" in refused(lambda: fetch(entry(web, "/page", "/missing"), tmp_path / "b", patience=QUICK))
    assert "nobody publishes" in refused(lambda: fetch(entry(web), tmp_path / "b"))


def test_mirror_folder(web: Web, tmp_path: Path) -> None:
    mirror, out = tmp_path / "mirror", tmp_path / "out"
    mirror.mkdir()
    wanted = entry(web, "/x/other_name.pth", size=len(web.body), sha256=sha(web.body))
    assert "holds no g.pt" in refused(lambda: fetch(wanted, out, mirror=mirror))
    assert "not a folder" in refused(lambda: fetch(wanted, out, mirror=tmp_path / "none"))
    _file(mirror / "other_name.pth", web.body)
    assert fetch(wanted, out, mirror=mirror, read=read_weights).read_bytes() == web.body and web.asked == []
    _file(mirror / "g.pt", b"<html>Quota exceeded</html>")
    os.remove(out / "g.pt")
    assert "quota is used up" in refused(lambda: fetch(wanted, out, mirror=mirror, read=read_weights))
    _file(mirror / "g.pt", b"no weights")
    unknown = replace(wanted, size=None, sha256=None)
    assert "damaged" in refused(lambda: fetch(unknown, out, mirror=mirror, read=read_weights))
    assert "10 bytes" in refused(lambda: fetch(wanted, out, mirror=mirror)) and os.listdir(out) == []
    assert "target folder" in refused(lambda: fetch(wanted, mirror, mirror=mirror, overwrite=True))


def test_weights_of_losses_come_the_same_way(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    good, other = f"/good/net-{sha(web.body)[:8]}.pth", "/good/net-00000000.pth"
    path = hub_weights(web.url + good, "the test")
    assert path == tmp_path / "hub" / "checkpoints" / Path(good).name and path.read_bytes() == web.body
    asked = len(web.asked)
    assert hub_weights(web.url + good, "the test") == path and len(web.asked) == asked
    message = refused(lambda: hub_weights(web.url + other, "the test"))
    assert "the test needs net-00000000.pth" in message and "published is 00000000" in message
    with serve(Web(b"")) as gone:
        url = f"{gone.url}/n.pth"
    message = refused(lambda: hub_weights(url, "the test"))
    assert "no connection" in message and "put n.pth" in message and "$PSP_WEIGHTS_DIR" in message
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.thorough
def test_processes_that_need_the_same_weights_wait(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    calls = []

    def busy(entry: Published, folder: Path) -> None:
        calls.append(entry.name)
        if len(calls) == 1:
            raise Busy("another process is fetching it")
        folder.mkdir(parents=True)
        _file(folder / entry.name, b"x")  # the other one is done
        raise UserError("cannot write it")

    monkeypatch.setattr("criteria.weights.fetch", busy)
    assert hub_weights(web.url + "/good/n.pth", "the test").read_bytes() == b"x" and calls == ["n.pth"] * 2


# ---- the disk ----------------------------------------------------------------------------------------


def test_disks_that_are_full_or_not_to_be_written(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    _file(tmp_path / "mirror.pt", web.body)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    shutil.move(tmp_path / "mirror.pt", mirror / "g.pt")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        for options in ({}, {"mirror": mirror}):
            message = refused(lambda options=options: fetch(entry(web, "/good"), tmp_path, patience=QUICK, **options))
            assert "too large" in message.lower() and str(tmp_path) in message
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "g.pt").exists()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    for options in ({}, {"mirror": mirror}):
        message = refused(lambda options=options: fetch(entry(web, "/good"), tmp_path, patience=QUICK, **options))
        assert "are free on this disk" in message
    _file(tmp_path / "f", b"")
    assert "cannot create" in refused(lambda: fetch(entry(web, "/good"), tmp_path / "f" / "x", patience=QUICK))


# ---- the script, the manifest, names -----------------------------------------------------------------


def manifest_of(monkeypatch: pytest.MonkeyPatch, *entries: Published) -> None:
    monkeypatch.setattr(fetch_pretrained, "read_manifest", lambda: {e.name: e for e in entries})


def test_script_fetches_several_and_names_those_that_fail(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = entry(web, "/good", sha256=sha(web.body))
    bad = replace(good, name="bad.pt", urls=(web.url + "/missing",))
    manifest_of(monkeypatch, good, bad)
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path / "w"))
    assert fetch_pretrained.main(["bad", "g.pt", "g"]) == 1
    out, err = capsys.readouterr()
    assert "licence: MIT" in out and str(tmp_path / "w" / "g.pt") in out and "error: bad.pt: " in err
    assert "1 fetched, 1 failed" in err and "\r" not in err, "no progress bar where nobody looks"
    assert fetch_pretrained.main(["g", "--from", str(tmp_path), "--out", str(tmp_path / "w")]) == 0
    assert "HTTP 404" in refused(lambda: fetch_pretrained.main(["bad.pt"]))
    for wrong, words in ((["baad.pt"], "did you mean bad.pt"), (["zzz"], "--list"), ([], "--list")):
        assert words in refused(lambda wrong=wrong: fetch_pretrained.main(wrong))
    assert "positive" in refused(lambda: fetch_pretrained.main(["g", "--timeout", "0"]))
    assert locate("g.pt") == tmp_path / "w" / "g.pt" and read_weights("g.pt").part("decoder")


def test_list_and_what_is_part_of_the_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_pretrained.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in read_manifest())
    assert "model_ir_se50.pth                      175 MB  --id_net=ir_se50" in out
    assert fetch_pretrained.main(["--list", "ffhq.pkl", "moco_v2_800ep_pretrain.pth.tar"]) == 0
    out = capsys.readouterr().out
    assert "size     not published" in out and "md5 begins with a04e12f8" in out and "CC BY-NC" in out
    assert fetch_pretrained.main(["psp_sketch_to_face"]) == 0
    assert "part of the repository" in capsys.readouterr().out


def test_manifest_holds_what_it_promises(root: Path) -> None:
    entries = json.loads((root / "pretrained" / "manifest.json").read_text())["files"]
    assert len({e["name"] for e in entries}) == len(entries)
    for e in entries:
        assert e["licence"] and e["source"] and e["use"] and e["committed"] == (root / e["path"]).is_file(), e["name"]
        assert e["committed"] or e["url"].startswith("https://")
        assert e["sha256"] is None or re.fullmatch("[0-9a-f]{64}", e["sha256"])
        assert e["sha256"] is None or e["size"], "a hash without its size"
        ending = Path(e["name"]).stem.rpartition("-")[2]
        if re.fullmatch("[0-9a-f]{8}", ending):
            assert e["sha256_prefix"] == ending and (e["sha256"] or ending).startswith(ending)
        if e["committed"]:
            verify(root / e["path"], read_manifest()[e["name"]])
    wanted = {"psp_celebs_sketch_to_face.pt", "e4e_ffhq_encode.pt", "restyle_psp_ffhq_encode.pt", "ffhq.pkl"}
    assert wanted <= {e["name"] for e in entries}


def test_names_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(tmp_path))
    assert weight_folders()[0] == tmp_path
    _file(tmp_path / "mine.pt", b"")
    assert find_weights("none.pt", "mine.pt") == tmp_path / "mine.pt" == locate("mine.pt")
    assert locate("sub/mine.pt") == Path("sub/mine.pt") and locate("x" * 5000) == Path("x" * 5000)
    _file(tmp_path / "folder" / "model.safetensors", b"")
    assert locate(tmp_path / "folder") == tmp_path / "folder" / "model.safetensors"
    monkeypatch.chdir(tmp_path / "folder")
    _file(tmp_path / "folder" / "mine.pt", b"")
    assert locate("mine.pt") == Path("mine.pt"), "a file that is here comes first"
    assert is_published("psp_ffhq_encode.pt") and not is_published("psp_sketch_to_face.safetensors")
    hint = refused(lambda: read_weights("psp_ffhq_encode.pt"))
    assert "does not exist" in hint and "scripts/fetch_pretrained.py psp_ffhq_encode.pt" in hint
    with pytest.raises(UserError, match="missing or damaged"):
        read_manifest(_file(tmp_path / "m.json", b'{"files": [3]}'))


def _file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path
