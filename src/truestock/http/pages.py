"""Pages for people, made out of the OpenAPI document: plain HTML, no script, nothing from afar."""

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from truestock.http.advice import ADVICE
from truestock.http.openapi import GUARDED, REPEATED, WITH_BODY, without_null
from truestock.http.problems import PROBLEM_JSON
from truestock.model.refusal import MEANINGS, Code

Schema = dict[str, Any]

# What nearly every endpoint answers now and then.
USUAL = frozenset(code.value for code in (*GUARDED, *WITH_BODY, *REPEATED))

# JSON's texts (those before a colon are names), numbers and words.
TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?|-?\b\d[\d.eE+-]*|\b(?:true|false|null)\b')

FRAME = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="/schema/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/schema/style.css">
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top"><a class="brand" href="/schema">Truestock <span>API</span></a>
<nav aria-label="Documents"><a href="/problems">Problems</a>
<a href="/schema/openapi.json">openapi.json</a></nav></header>
{body}
</body>
</html>
"""


def frame(title: str, body: str) -> bytes:
    """A whole page."""
    return FRAME.format(title=escape(title), body=body).encode()


def prose(text: str) -> str:
    """Paragraphs with `code` in them."""
    parts = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    return "".join(f"<p>{inline(part)}</p>" for part in parts if part)


def inline(text: str) -> str:
    """A line with `code` in it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


# The reference ----------------------------------------------------------------


def reference(document: Schema) -> bytes:
    """The page of all endpoints."""
    groups = by_tag(document)
    info = document["info"]
    objects = document["components"]["schemas"]
    sections = [group(tag, operations, objects) for tag, operations in groups]
    main = f"""<div class="layout">{contents(groups)}<main id="main">
<section class="intro"><h1>The HTTP contract <small>version {escape(info["version"])}</small></h1>
{prose(info["description"])}</section>
{"".join(sections)}
<section id="schemas"><h2>Objects</h2>{schemas(objects)}</section>
</main></div>"""
    return frame("Truestock API", main)


Operation = tuple[str, str, Schema]


def by_tag(document: Schema) -> list[tuple[Schema, list[Operation]]]:
    """Operations (method, path, what the document says) by their tag."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return [
        (tag, [each for each in operations if tag["name"] in each[2]["tags"]])
        for tag in document["tags"]
    ]


def contents(groups: Sequence[tuple[Schema, list[Operation]]]) -> str:
    """The list of endpoints: beside the text, or above it on a phone."""
    parts = []
    for tag, operations in groups:
        links = "".join(
            f'<li><a href="#{operation["operationId"]}">{badge(method)}'
            f"<span>{escape(briefly(operation['summary']))}</span></a></li>"
            for method, _, operation in operations
        )
        parts.append(f'<h2><a href="#tag-{tag["name"]}">{tag["name"]}</a></h2><ul>{links}</ul>')
    inner = "".join(parts) + '<h2><a href="#schemas">objects</a></h2>'
    return (
        f'<nav class="contents wide" aria-label="Endpoints">{inner}</nav>'
        f'<details class="contents narrow"><summary>Endpoints</summary>{inner}</details>'
    )


def briefly(summary: str) -> str:
    """The first clause of a sentence."""
    return re.split(r"[.;:]|, ", summary)[0]


def badge(method: str) -> str:
    """A method, coloured."""
    return f'<b class="method {method.lower()}">{method}</b>'


def group(tag: Schema, operations: Iterable[Operation], objects: dict[str, Schema]) -> str:
    """The endpoints of one module."""
    articles = "".join(article(*operation, objects) for operation in operations)
    name = tag["name"]
    return f"""<section id="tag-{name}"><h2>{name.capitalize()}</h2>
{prose(tag["description"])}{articles}</section>"""


def article(method: str, path: str, operation: Schema, objects: dict[str, Schema]) -> str:
    """One endpoint: what it takes and gives on the left, an example on the right."""
    name = operation["operationId"]
    shown = re.sub(r"\{\w+\}", r"<var>\g<0></var>", escape(path))
    return f"""<article id="{name}"><h3>
<a href="#{name}">{badge(method)}<code>{shown}</code></a></h3>
<div class="columns"><div class="told">
<p class="summary">{inline(operation["summary"])}</p>
{prose(operation["description"])}{parameters(operation)}
{body(operation, objects)}{answers(operation)}</div>
<div class="examples">{request_example(method, path, operation)}{answer_example(operation)}</div>
</div></article>"""


def parameters(operation: Schema) -> str:
    """Path, query and header parameters."""
    found = operation.get("parameters", [])
    if not found:
        return ""
    rows = [(p["name"], p["schema"], p["required"], p["in"]) for p in found]
    return f"<h4>Parameters</h4>{fields(rows)}"


def body(operation: Schema, objects: dict[str, Schema]) -> str:
    """What the body is made of: an object's fields at once, without a way to go."""
    if "requestBody" not in operation:
        return ""
    parts = []
    for media_type, given in operation["requestBody"]["content"].items():
        schema = given["schema"]
        parts.append(f"<p><code>{escape(media_type)}</code>: {type_text(schema)}</p>")
        if "$ref" in schema:
            parts.append(object_text(objects[schema["$ref"].rpartition("/")[2]]))
    return f"<h4>Body</h4>{''.join(parts)}"


def answers(operation: Schema) -> str:
    """What it answers, by status; refusals link to their pages, the usual ones on one line."""
    rows, usual = [], []
    for status, answer in operation["responses"].items():
        content = answer.get("content", {})
        if PROBLEM_JSON in content:
            codes = content[PROBLEM_JSON]["examples"]
            usual += [code for code in codes if code in USUAL]
            text = ", ".join(problem_link(code) for code in codes if code not in USUAL)
        else:
            text = ", ".join(type_text(given["schema"]) for given in content.values())
            text = text or escape(answer["description"])
        if text:
            rows.append(f'<tr><td><b class="s{status[0]}">{status}</b></td><td>{text}</td></tr>')
    also = f"<p class='usual'>Also {', '.join(map(problem_link, usual))}.</p>" if usual else ""
    return f"<h4>Answers</h4><table class='answers'>{''.join(rows)}</table>{also}"


def problem_link(code: str) -> str:
    """A code that leads to its page."""
    return f'<a href="/problems/{code}">{code}</a>'


def request_example(method: str, path: str, operation: Schema) -> str:
    """The example's request: its line, and its body."""
    line, query = path, []
    for parameter in operation.get("parameters", []):
        if "example" in parameter:
            value = parameter["example"]
            text = ",".join(value) if isinstance(value, list) else str(value)
            line = line.replace(f"{{{parameter['name']}}}", text)
            if parameter["in"] == "query":
                query.append(f"{parameter['name']}={text}")
    line += ("?" if query else "") + "&".join(query)
    shown = f'<pre class="line">{badge(method)} {escape(line)}</pre>'
    content = operation.get("requestBody", {}).get("content", {})
    return f"<h4>Example</h4>{shown}{''.join(sample(given) for given in content.values())}"


def answer_example(operation: Schema) -> str:
    """The example's answer."""
    status, answer = next(iter(operation["responses"].items()))
    samples = "".join(sample(given) for given in answer.get("content", {}).values())
    return f"<h4>Answer <small>{status}</small></h4>{samples}" if samples else ""


def sample(given: Schema) -> str:
    """An example as it is sent."""
    value = given.get("example")
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    coloured = escape(text) if isinstance(value, str) else coloured_json(text)
    return f'<pre tabindex="0">{coloured}</pre>'


def coloured_json(text: str) -> str:
    """JSON with its names, texts and numbers told apart."""

    def colour(match: re.Match[str]) -> str:
        token = match[0]
        if match[1]:
            return f'<span class="name">{escape(token[: -len(match[1])])}</span>{match[1]}'
        kind = "text" if token.startswith('"') else "value"
        return f'<span class="{kind}">{escape(token)}</span>'

    return TOKENS.sub(colour, text)


# Schemas ----------------------------------------------------------------------


def schemas(components: dict[str, Schema]) -> str:
    """Every object by its name."""
    return "".join(
        f'<article id="object-{name}" class="object"><h3><a href="#object-{name}">{name}</a></h3>'
        f"{prose(schema.get('description', ''))}{object_text(schema)}</article>"
        for name, schema in sorted(components.items())
    )


def object_text(schema: Schema) -> str:
    """An object's fields, or what else it is."""
    if "properties" not in schema:
        return f"<p>{type_text(schema)}</p>"
    required = schema.get("required", ())
    return fields((n, s, n in required, "") for n, s in schema["properties"].items())


def fields(rows: Iterable[tuple[str, Schema, bool, str]]) -> str:
    """A table of fields: name, schema, whether they are required, and where they stand."""
    lines = []
    for name, schema, required, place in rows:
        notes = [place] if place else []
        notes += ["required"] if required else []
        if schema.get("default") not in (None, [], ()):
            notes.append(f"default {json.dumps(schema['default'])}")
        # What may be left out need not be null.
        shown = without_null(schema) if schema.get("default", ...) is None else schema
        told = f"<small>{escape(', '.join(notes))}</small>" if notes else ""
        lines.append(
            f"<tr><td><code>{escape(name)}</code>{told}</td><td>{type_text(shown)}</td></tr>"
        )
    return f"<table class='fields'>{''.join(lines)}</table>"


def type_text(schema: Schema) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#object-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(type_text(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "prefixItems" in schema:
        return f"[{', '.join(type_text(each) for each in schema['prefixItems'])}]"
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list{bounds(schema, 'minItems', 'maxItems')} of {type_text(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {type_text(schema['additionalProperties'])}"
    if schema.get("format") in ("date-time", "date"):
        return "time" if schema["format"] == "date-time" else "date"
    names = {"string": "text", "integer": "whole number", "null": "null"}
    limits = bounds(schema, "minimum", "maximum") + bounds(schema, "minLength", "maxLength")
    return f"{names.get(kind, kind)}{limits}"


def bounds(schema: Schema, least: str, most: str) -> str:
    """A range, as far as it is bounded."""
    low, high = schema.get(least), schema.get(most)
    if low is None and high is None:
        return ""
    if low is None:
        return f" <small>≤ {high:,}</small>"
    if high is None:
        return f" <small>≥ {low:,}</small>"
    return f" <small>{low:,} – {high:,}</small>"


# Problems ---------------------------------------------------------------------


def problem_list() -> bytes:
    """All codes with their statuses."""
    rows = "".join(
        f'<tr><td><b class="s{str(meaning.status)[0]}">{meaning.status}</b></td>'
        f'<td><a href="/problems/{code}"><code>{code}</code></a></td>'
        f"<td>{escape(meaning.title)}</td></tr>"
        for code, meaning in sorted(MEANINGS.items(), key=lambda entry: entry[1].status)
    )
    main = f"""<main id="main" class="page"><h1>Problems</h1>
<p>Every error is <code>application/problem+json</code> (RFC 9457). Program against its
<code>code</code>; <code>detail</code> is for people and may change.</p>
<table class="answers">{rows}</table></main>"""
    return frame("Problems – Truestock API", main)


def problem_page(code: Code, example: Schema) -> bytes:
    """One code: what it means, what to do, and how it looks."""
    meaning, advice = MEANINGS[code], ADVICE[code]
    text = coloured_json(json.dumps(example["value"], indent=2, ensure_ascii=False))
    main = f"""<main id="main" class="page"><p><a href="/problems">Problems</a></p>
<h1>{escape(meaning.title)}</h1>
<p><b class="s{str(meaning.status)[0]}">{meaning.status}</b> <code>{code}</code></p>
{prose(advice.why)}<h2>What to do</h2>{prose(advice.remedy)}
<h2>Example</h2><pre tabindex="0">{text}</pre></main>"""
    return frame(f"{meaning.title} – Truestock API", main)
