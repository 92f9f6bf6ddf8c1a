"""The OpenAPI description of the interface, for clients and for fuzzers."""

from typing import Any

NUMBER = {"type": "number", "nullable": True}
TEXT = {"type": "string"}
ERRORS = ("400", "401", "403", "404", "413", "429")


def whole(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, "nullable": True}


def one_of(*kinds: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(kinds)}


def listed(kind: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": kind, "minItems": 1}


IDS = listed({"type": "integer", "minimum": 0})
COMMON: dict[str, Any] = {
    "max_tokens": whole(0, 1 << 20),
    "temperature": NUMBER | {"minimum": 0, "maximum": 2},
    "top_p": NUMBER | {"minimum": 0, "maximum": 1},
    "top_k": whole(-1, 1 << 20),
    "seed": whole(-(2**63), 2**63 - 1),
    "min_p": NUMBER | {"minimum": 0, "maximum": 1},
    "frequency_penalty": NUMBER | {"minimum": -2, "maximum": 2},
    "presence_penalty": NUMBER | {"minimum": -2, "maximum": 2},
    "repetition_penalty": NUMBER | {"minimum": 0.01, "maximum": 100},
    "logit_bias": {
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    },
    "min_tokens": whole(0, 1 << 20),
    "ignore_eos": {"type": "boolean"},
    "stop_token_ids": {"type": "array", "items": {"type": "integer", "minimum": 0}},
    "n": whole(1, 128),
    "stop": one_of(TEXT, {"type": "array", "items": TEXT, "maxItems": 32}),
    "stream": {"type": "boolean"},
}
PIXEL = (  # a PNG of one grey pixel
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCB"
    "d81ytgAAAABJRU5ErkJggg=="
)
TEXT_PART = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"type": "string", "enum": ["text"]}, "text": TEXT},
}
IMAGE_PART = {
    "type": "object",
    "required": ["type", "image_url"],
    "properties": {
        "type": {"type": "string", "enum": ["image_url"]},
        "image_url": {
            "type": "object",
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "pattern": "^data:image/", "example": PIXEL},
            },
        },
    },
}
MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"type": "string", "enum": ["system", "developer", "user", "assistant"]},
        "content": one_of(TEXT, listed(one_of(TEXT_PART, IMAGE_PART))),
    },
}
COMPLETION = COMMON | {
    "prompt": one_of(TEXT, listed(TEXT), IDS, listed(IDS)),
    "logprobs": whole(0, 20),
    "best_of": whole(1, 128),
    "echo": {"type": "boolean"},
}
CHAT = COMMON | {
    "messages": listed(MESSAGE),
    "logprobs": {"type": "boolean"},
    "top_logprobs": whole(0, 20),
}


SAID = {"type": "object", "required": ["role", "content"],
        "properties": MESSAGE["properties"] | {"content": TEXT}}  # fmt: skip
LABELER = {"labeler": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,40}$"}}
JUDGEMENT = {  # of each answer
    "kind": {"type": "string", "enum": ["ranking", "demonstration", "skip"]},
    "item": TEXT,
    "answer": TEXT,
    "ranks": listed({"type": "integer", "minimum": 1, "maximum": 9}),
    "ratings": listed(whole(1, 7)),
    "metadata": listed({"type": "object", "additionalProperties": {"type": "boolean"}}),
}
TALK = JUDGEMENT | {
    "messages": listed(SAID),
    "answers": listed(TEXT),
    "sources": listed(TEXT),
    "ended": listed({"type": "boolean"}),
}


def schema(models: list[str], labels: bool) -> dict[str, Any]:
    """OpenAPI 3.0 of the routes that a program uses, with those of labels where they are kept."""
    answers = {
        code: {"description": "refused", "content": {"application/json": {}}} for code in ERRORS
    }

    def told(summary: str) -> dict[str, Any]:
        good = {"200": {"description": "done", "content": {"application/json": {}}}}
        return {"summary": summary, "responses": good | answers}

    named = {"model": {"type": "string", "enum": models}}

    def post(summary: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
        body = {"type": "object", "properties": properties, "required": list(required)}
        content = {"application/json": {"schema": body}}
        return {"post": told(summary) | {"requestBody": {"required": True, "content": content}}}

    label_routes = {
        "/labels/record": post("keeps a label", LABELER | JUDGEMENT, "labeler", "item", "kind"),
        "/labels/chat": post("keeps one of a conversation", LABELER | TALK, "labeler", "messages"),
        "/labels/undo": post("takes a label back", LABELER, "labeler"),
    }
    return {
        "openapi": "3.0.3",
        "info": {"title": "lm", "version": "1", "description": ", ".join(models)},
        "paths": {
            "/v1/models": {"get": told("the models")},
            "/v1/completions": post("continues a text", COMPLETION | named, "prompt"),
            "/v1/chat/completions": post("answers a conversation", CHAT | named, "messages"),
            "/tokenizer_info": {"get": told("the tokenizer")},
            "/tokenize": post("the ids of a text", named | {"prompt": TEXT}, "prompt"),
            "/detokenize": post("the text of ids", named | {"tokens": IDS}, "tokens"),
            "/health": {"get": told("what is being done")},
            **(label_routes if labels else {}),
        },
    }
