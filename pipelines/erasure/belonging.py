"""Which records of a landed line belong to whom is erased, and the line without them.

A line of most formats is one record. Formats whose lines hold several say where (`-- records: data[], trace.scores[]` in
their staging select): only the records that are theirs go, and where what the others share with them (a resource, a trace)
is theirs, all of it goes. Where core has a row of a record, its columns say whose it is. Else a record is theirs when a
value of it, outside of what was said, is one of their identifiers under a key of that kind. Where somebody else's record
only mentions a telling identifier, `[erased]` takes its place.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from pipelines.erasure.needles import LONGEST

KINDS = ("user", "tenant", "session", "trace", "call")
"""What an identifier can identify; `call` is also a signal (feedback) about one."""
KEYS = {
    "user": re.compile(r"user|safety_?identifier|rater|author|customer|client|person|email|principal|actor|identity", re.I),
    # LiteLLM's end_user is the tenant of a call that names no organisation.
    "tenant": re.compile(r"tenant|org|customer|client|company|^end_user$", re.I),
    "session": re.compile(r"session|conversation|thread|episode|target", re.I),
    "trace": re.compile(r"trace|inference|target|(^|[._])id$", re.I),
    "call": re.compile(r"id$|call|target|inference|request|span|observation|generation", re.I),
}
"""Under which keys a value identifies something of that kind: one of the last three that lead to it; for a call the last."""
REFERS = re.compile(r"(^|[._])(previous|prev|parent|prior|root|origin|source|related|replay|retr(y|ied)|fallback|caused?|links?($|[._]))|repl(y|ies)|reference", re.I)
"""Under these keys stands another call, trace or session than the record's own: that is a mention."""
SAID = re.compile(
    r"^(messages|input|output|content|contents|choices|arguments|prompt|completion|system|text|parts|tool_calls|comment|value_text|"
    r"gen_ai\.(input|output)\.messages|gen_ai\.system_instructions|gen_ai\.(prompt|completion).*|(input|output)\.value|llm\.(input|output)_messages.*)$",
    re.I,
)
"""Under these keys stands what was said: naming somebody there makes nobody the owner of the record."""
OWN_IDS = re.compile(r"^(id|request_?id|span_?id|inference_?id|trace_?id|session_?id|conversation_?id|episode_?id|litellm_call_id)$", re.I)
DRAWN = re.compile(r"(chat)?cmpl-[0-9]{1,3}")
"""Ids of Ollama's answers, drawn from 999 numbers: other answers have the same (usage.sql, is_drawn_id)."""
RATER = re.compile(r"rater|author|annotat", re.I)
ERASED = "[erased]"
PLAIN = re.compile(r"[A-Za-z0-9 _.:,{}\[\]-]+")
"""Characters that no writer of JSON escapes."""
NUMBER = re.compile(r'"\\u0000([-+.0-9eE]+)\\u0000"')


@dataclass(frozen=True)
class Identifier:
    """An identifier as it stands in the logs. `systems`: only in formats whose calls have these prefixes; None: anywhere."""

    kind: str
    text: str
    systems: frozenset[str] | None = None

    @property
    def is_telling(self) -> bool:
        """Whether it can be told from ordinary words and numbers wherever it stands."""
        return not DRAWN.fullmatch(self.text) and len(self.text) >= 8 and ((bool(re.search(r"[0-9@]", self.text)) and bool(re.search(r"[^0-9.]", self.text))) or len(self.text) >= 24)

    @property
    def needles(self) -> list[bytes]:
        """How it may be written: as it is, escaped as JSON, in base64 where it is hex; a common word only between quotes."""
        raw = self.text.encode()
        forms = {form.encode() for form in _written(self.text)}
        if not self.is_telling:
            forms = {quote + form + quote for form in forms for quote in (b'"', b'\\"')}
            if self.text.isdigit():
                forms |= {b":" + raw, b": " + raw}
        elif re.fullmatch(r"([0-9a-f]{16}){1,2}", self.text):
            forms |= {base64.b64encode(bytes.fromhex(self.text)), raw.upper()}
        return sorted(f for f in forms if 4 <= len(f) <= LONGEST)


@dataclass
class Pruned:
    """A line without what is theirs: its text, or None when nothing is left."""

    text: str | None
    records: int = 0
    """Records taken out."""
    shared: int = 0
    """Of these, taken out because what they share with others is theirs."""
    mentions: int = 0
    links: set[Identifier] = field(default_factory=set)
    """Identifiers found in records of theirs: of calls, traces and sessions."""


class Belonging:
    """Tells what belongs to the given identifiers."""

    def __init__(self, identifiers: Iterable[Identifier]) -> None:
        self._by_text: dict[str, list[Identifier]] = {}
        for one in identifiers:
            for text in {one.text, *(n.decode() for n in one.needles if one.is_telling)}:
                self._by_text.setdefault(text, []).append(one)
        self._mentions = sorted((t for t, found in self._by_text.items() if any(i.is_telling for i in found)), key=len, reverse=True)

    def prune(self, line: str, containers: list[list[str]], systems: frozenset[str], *, theirs: bool = False, others: frozenset[str] = frozenset()) -> Pruned:
        """The line without their records. A line that is no JSON goes when it holds a telling identifier.

        `theirs`: core has a row of theirs from this line, so something of it goes in any case. `others`: ids of the rows that
        core has of somebody else from it; these records stay, whatever their keys say.
        """
        try:
            record = json.loads(line, parse_float=lambda text: f"\0{text}\0")
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            return Pruned(None, 1) if theirs or any(_spans(line, text) for text in self._mentions) else Pruned(line)
        done = Pruned(line)
        if theirs and not containers:
            self._link(record, done)
            done.text, done.records = None, 1
            return done
        if (containers or not others) and self._goes(record, containers, systems, others, done):
            done.text = None
            return done
        if theirs and not done.records:
            return Pruned(None, 1)  # only the format's select can tell which
        if done.records:
            try:
                done.text = NUMBER.sub(r"\1", _compact(record, False))
                done.text.encode()
            except UnicodeEncodeError:
                done.text = NUMBER.sub(r"\1", _compact(record, True))
        for text in self._mentions:
            for start, end in reversed(_spans(done.text, text)):
                done.text = done.text[:start] + ERASED + done.text[end:]
                done.mentions += 1
        return done

    def _goes(self, node: dict[str, Any], containers: list[list[str]], systems: frozenset[str], others: frozenset[str], done: Pruned) -> bool:
        """Take what is theirs out of the records inside; says whether nothing should be left of `node` itself."""
        inside = 0
        left = 0
        steps: dict[str, list[list[str]]] = {}
        for path in containers:
            steps.setdefault(path[0], []).append(path[1:])
        own = {k: v for k, v in node.items() if k not in steps}
        mine = not (others and _is_one_of(own, others)) and self._is_theirs(own, systems)
        for name, rest in steps.items():
            child, deeper = node.get(name), [r for r in rest if r]
            if isinstance(child, list):
                kept = []
                for item in child:
                    if not isinstance(item, dict):
                        kept.append(item)
                        continue
                    inside += 1
                    if mine:
                        done.shared += not self._is_theirs(item, systems)
                        self._link(item, done)
                    elif not self._goes(item, deeper, systems, others, done):
                        left += 1
                        kept.append(item)
                if not mine and len(kept) < len(child):
                    node[name] = kept
            elif isinstance(child, dict):
                mine = mine or self._goes(child, deeper, systems, others, done)
        if mine:
            self._link(own, done)
            done.records += max(1, inside)
            return True
        return inside > 0 and left == 0 and done.records > 0

    def _is_theirs(self, node: Any, systems: frozenset[str]) -> bool:
        return any(self._identifies(value, keys, systems) for keys, value in _values(node))

    def _identifies(self, value: str, keys: tuple[str, ...], systems: frozenset[str]) -> bool:
        found = list(self._by_text.get(value, ()))
        if value.startswith("arn:"):
            found += self._by_text.get(re.split("[/:]", value)[-1], ())
        elif ":" in value:  # `openai:<id>`, `otel:<trace>:<span>`
            found += [one for last in {value.partition(":")[2], value.rpartition(":")[2]} for one in self._by_text.get(last, ()) if one.kind == "call"]
        return any((one.systems is None or one.systems & systems or not systems) and _says_whose(one.kind, keys) for one in found)

    def _link(self, node: Any, done: Pruned) -> None:
        """Remember the ids of a record of theirs, unless it is theirs only because they judged it."""
        values = list(_values(node))
        if any(value in self._by_text and any(RATER.search(k) for k in keys) for keys, value in values):
            return
        for keys, value in values:
            key = keys[-1] if keys else ""
            if not OWN_IDS.match(key) or not 8 <= len(value) <= 512 or len(keys) > 3 or any(REFERS.search(k) for k in keys):
                continue
            kind = "trace" if "trace" in key.lower() else "session" if re.search("session|conversation|episode", key, re.I) else "call"
            one = Identifier(kind, value)
            if one.is_telling and value not in self._by_text:
                done.links.add(one)
                if key == "id":
                    done.links.add(Identifier("trace", value))


def _says_whose(kind: str, keys: tuple[str, ...]) -> bool:
    """Whether a value that these keys lead to identifies something of a kind."""
    last = keys[-3:]
    if kind in ("session", "trace", "call") and any(REFERS.search(k) for k in last):
        return False
    return any(KEYS[kind].search(k) for k in (last[-1:] if kind == "call" else last))


def _is_one_of(node: Any, ids: frozenset[str]) -> bool:
    """Whether a record has one of some ids as its own."""
    return any(len(keys) <= 3 and OWN_IDS.match(keys[-1]) and value in ids and not any(REFERS.search(k) for k in keys) for keys, value in _values(node) if keys)


def _written(text: str) -> set[str]:
    """The ways in which writers of JSON put a text between quotes, and once more where that JSON is a text in another.

    Which characters are escaped, and how, hangs on the writer (PHP: `\\/`, .NET: `\\u002B`, Go: `\\u0026`, Python: all beyond ASCII).
    """
    if PLAIN.fullmatch(text):
        return {text}
    special = set(PLAIN.sub("", text))
    beyond = {c for c in special if ord(c) > 126}
    groups = [g for g in (beyond, *({c} for c in sorted(special - beyond))) if g]
    # Of many such characters: none, all, or those that web frameworks escape.
    chosen = list(product((False, True), repeat=len(groups))) if len(groups) <= 6 else [[way == "all" or (way == "web" and not g & set("/=@")) for g in groups] for way in ("none", "all", "web")]
    forms = {text}
    for escaped in chosen:
        for case in "xX":
            codes = {ord(c): "".join(f"\\u{int.from_bytes(u, 'big'):04{case}}" for u in _units(c)) if e else json.dumps(c, ensure_ascii=False)[1:-1]
                     for g, e in zip(groups, escaped, strict=True) for c in g}
            form = text.translate(codes)
            forms |= {form, form.replace("/", "\\/")}
    return forms | {json.dumps(form, ensure_ascii=False)[1:-1] for form in forms}


def _units(character: str) -> list[bytes]:
    """Its UTF-16 units."""
    raw = character.encode("utf-16-be", errors="surrogatepass")
    return [raw[n : n + 2] for n in range(0, len(raw), 2)]


def containers(sql: str) -> list[list[str]]:
    """Where a staging select says that its lines hold several records: `-- records: a[].b[], c[]` → [[a, b], [c]]."""
    found = re.findall(r"^--\s*records:\s*(.+)$", sql, re.MULTILINE)
    return [path.strip().replace("[]", "").split(".") for line in found for path in line.split(",")]


def tokens(line: str) -> set[str]:
    """Every value and key of a line that could be an identifier; of a line that is no JSON, what stands between quotes."""
    try:
        return {value for _, value in _values(json.loads(line, parse_float=str))}
    except (ValueError, RecursionError):
        return set(re.findall(r'[^"\\\s]{2,512}', line))


def _values(node: Any, keys: tuple[str, ...] = (), depth: int = 0) -> Iterator[tuple[tuple[str, ...], str]]:
    """(keys that lead there, value) of every text and number outside of what was said; JSON inside a text is read on, and may be an id itself."""
    if depth > 40:
        return
    if isinstance(node, dict):
        named = node.get("key") if isinstance(node.get("key"), str) and "value" in node else None  # OTLP attribute
        if named is not None:
            if not SAID.match(named):
                yield from _values(node["value"], (*keys, named), depth + 1)
            return
        for key, value in node.items():
            if not SAID.match(key):
                yield from _values(value, keys if key in ("stringValue", "intValue", "values", "arrayValue") else (*keys, key), depth + 1)
    elif isinstance(node, list):
        for item in node:
            yield from _values(item, keys, depth + 1)
    elif isinstance(node, str):
        if node[:1] in "{[" and len(node) > 2:
            try:
                yield from _values(json.loads(node, parse_float=str), keys, depth + 1)
                if len(node) > LONGEST:
                    return
            except (ValueError, RecursionError):
                pass
        yield keys, node.strip("\0")
    elif isinstance(node, int) and not isinstance(node, bool):
        yield keys, str(node)


def _spans(line: str, text: str) -> list[tuple[int, int]]:
    """Where a text stands alone in a line."""
    word = "[A-Za-z0-9_-]"
    found = []
    at = line.find(text)
    while at >= 0:
        end = at + len(text)
        before = line[max(0, at - 6) : at]
        touched = bool(re.search(word + r"\Z", before)) and not re.search(r"\\([nrtbf]|u[0-9a-fA-F]{4})\Z", before) and re.match(word, text[0])
        if not touched and not (re.match(word, line[end : end + 1]) and re.match(word, text[-1])):
            found.append((at, end))
        at = line.find(text, end)
    return found


def _compact(record: Any, ascii: bool) -> str:
    return json.dumps(record, ensure_ascii=ascii, separators=(",", ":"))
