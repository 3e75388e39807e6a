"""The page in six languages: the same words in each file, and none that the page asks for is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from psp.images.labels import LABELS

STATIC = Path(__file__).parents[2] / "psp" / "studio" / "static"
LANGUAGES = ("en", "de", "fr", "es", "ja", "zh")
SCRIPTS = sorted([*STATIC.glob("*.js"), *STATIC.with_name("web").glob("*.js")])
PARTS = re.findall(r"^  (\w+): \[\[", (STATIC / "parts.js").read_text("utf-8"), re.M)


def words(language: str) -> dict[str, str]:
    return dict(json.loads((STATIC / "words" / f"{language}.json").read_text("utf-8")))


def asked_for() -> set[str]:
    """Keys in the page and in its scripts, and those that scripts put together."""
    page = (STATIC / "index.html").read_text("utf-8")
    keys = set(re.findall(r'data-t(?:-title|-label|-alt)?="([^"]+)"', page))
    for path in SCRIPTS:
        asked = re.findall(r"\bt\(\s*'([^']+)'|\bRefused\(\s*'(web\.[^']+)'", path.read_text("utf-8"))
        keys |= {a or b for a, b in asked}
    keys |= {f"label.{name}" for name in LABELS} | {f"part.{name}" for name in PARTS}
    keys |= {f"{group}.{kind}" for group in ("empty", "from") for kind in ("sketch", "labels", "photo")}
    return keys | {f"hint.{name}" for name in ("draw", "more", "choose")}


def test_every_word_that_is_asked_for_is_there() -> None:
    assert len(PARTS) > 10
    assert sorted(asked_for() - words("en").keys()) == []


def test_no_word_is_left_over() -> None:
    text = "".join(path.read_text("utf-8") for path in (*SCRIPTS, STATIC / "index.html"))
    groups = set(re.findall(r"\bt\(\s*`([\w.]+)\.\$\{", text)) | {"knows"}
    left = {key for key in words("en").keys() - asked_for() if f"'{key}'" not in text}
    assert sorted(key for key in left if key.split(".")[0] not in groups) == []


def test_there_is_a_file_for_each_language_of_the_menu() -> None:
    menu = re.search(r"LANGUAGES = \{(.*)\}", (STATIC / "words.js").read_text("utf-8"))
    assert menu and tuple(re.findall(r"(\w+):", menu[1])) == LANGUAGES
    assert {path.stem for path in (STATIC / "words").iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_languages_have_the_same_keys_and_blanks(language: str) -> None:
    english, other = words("en"), words(language)
    assert list(other) == list(english)
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", other[key])) == set(re.findall(r"\{\w+\}", text)), key
        assert bool(other[key]) == bool(text), key
    same = [key for key, text in english.items() if other[key] == text and len(text) > 12]
    assert same == [], "not translated"
