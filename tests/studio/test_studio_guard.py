"""Who is answered and what browsers are told: hosts, senders, headers, paths; nothing of a request lands on a disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import tiny_studio as tiny
from tiny_studio import good, refused

from psp.studio import service
from psp.studio.app import STATIC, create_app
from psp.studio.guard import HEADERS, address_for_others, host_name
from psp.studio.models import Shelf


@pytest.fixture(scope="module")
def client() -> Any:
    return tiny.client(allowed_hosts=["studio.example"])


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:5000", "127.0.0.1:80", "[::1]:5000", "192.168.1.7", "studio.example:443"],
)
def test_hosts_that_are_answered(client: Any, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_the_address_that_others_can_use() -> None:
    """None where only this machine gets in; else one that is no placeholder."""
    for host in ("127.0.0.1", "localhost", "127.8.8.8", "::1"):
        assert address_for_others(host) is None
    assert address_for_others("192.0.2.7") == "192.0.2.7" and address_for_others("no such\0name") is None
    for host in ("0.0.0.0", ""):
        assert address_for_others(host) not in (None, "", "0.0.0.0", "localhost")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:5000", "studio.example.evil.org", "x:y"],
)
def test_names_that_somebody_else_may_point_here_are_not(client: Any, host: str) -> None:
    for path in ("/", "/healthz", "/api/models", "/static/main.js"):
        assert client.get(path, headers={"Host": host}).status_code in (400, 421)
    assert host_name("[::1]:5000") == "::1" and host_name("LOCALHOST:1") == "localhost"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"},
        {"Origin": "null"}, {"Origin": "http://localhost:8080"}, {"Origin": ""},
    ],
)  # fmt: skip
def test_other_sites_cannot_send(client: Any, headers: dict[str, str]) -> None:
    for path in ("generate", "interpolate", "sketch", "load"):
        refused(client.post(f"/api/{path}", headers=headers, **tiny.form(image=tiny.drawing(1))), 403)


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}])
def test_the_page_itself_and_programs_can(client: Any, headers: dict[str, str]) -> None:
    good(client.post("/api/generate", headers=headers, **tiny.form(image=tiny.drawing(1))))


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/models", "/nothing", "/api/generate"])
def test_every_answer_carries_the_security_headers(client: Any, path: str) -> None:
    headers = client.get(path).headers
    assert {name: headers[name] for name in HEADERS} == HEADERS
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "http" not in policy and "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/static/",
        "/static/%00", "/static/C:\\windows\\win.ini", "/examples/sketch/999", "/examples/sketch/-1", "/examples/x/0",
        "/examples/../../etc/passwd", "/examples/sketch/0/../../../x", "/app.py", "/..", "//etc/passwd",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(client: Any, path: str) -> None:
    assert client.get(path).status_code in (404, 308, 421)


def test_the_page_and_its_parts_are_served_from_memory(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.*")]
    assert {"index.html", "main.js", "studio.css", "icon.svg", "words/en.json"} <= set(names)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} was read"))
    monkeypatch.setattr("builtins.open", lambda *a, **k: pytest.fail(f"{a} was opened"))
    for name in names:
        response = client.get(f"/static/{name}")
        assert response.status_code == 200 and response.data
        assert client.get(f"/static/{name}", headers={"If-None-Match": response.headers["ETag"]}).status_code == 304
    assert b"<canvas" in client.get("/").data


def test_the_page_asks_nobody_else() -> None:
    """No address of another host anywhere in the page; the browser test watches the requests themselves."""
    for path in STATIC.rglob("*.*"):
        text = path.read_text("utf-8").replace("http://www.w3.org/", "")
        assert "http://" not in text and "https://" not in text and 'src="//' not in text, path.name
    page = (STATIC / "index.html").read_text("utf-8")
    assert " style=" not in page and " onclick=" not in page and "<style" not in page  # the policy forbids them


def test_examples_are_served_by_number(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(tiny.png(tiny.drawing(1)))
    client = tiny.client(tools=tiny.tools(tmp_path))
    (example,) = good(client.get("/api/about"))["examples"]
    assert example == {"kind": "sketch", "name": "one", "url": "examples/sketch/0"}
    assert client.get("/examples/sketch/0").data == (tmp_path / "one.png").read_bytes()
    assert client.get("/examples/sketch/1").status_code == 404


def test_nothing_of_an_upload_touches_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, lambda *a, **k: pytest.fail("a temporary file"))
    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", None, raising=False)
    client = tiny.client()
    large = tiny.png(tiny.photo(1, 1200))
    assert len(large) > 600_000  # werkzeug writes files from 500 kB on
    good(client.post("/api/photo", **tiny.form(image=large)))
    good(client.post("/api/sketch", **tiny.form(image=large)))


def test_every_field_and_address_is_documented(root: Path) -> None:
    text = (root / "docs" / "studio_api.md").read_text("utf-8")
    fields = {*service.GENERATE, "a", "b", "t", *(name for names in service.PREPARE.values() for name in names)}
    assert [name for name in fields if f"`{name}`" not in text] == []
    rules = {str(rule) for rule in create_app(tiny.studio()).url_map.iter_rules()}
    known = {rule for rule in rules if rule.startswith("/api") and "<" not in rule} | {"/healthz"}
    assert [rule for rule in known | {f"/api/{kind}" for kind in service.PREPARE} if rule not in text] == []


def test_a_shelf_needs_a_model() -> None:
    from psp.errors import UserError

    with pytest.raises(UserError, match="--checkpoint_path"):
        Shelf([])
