from __future__ import annotations

import json

import pytest

from tests.support.pricebook import ROOT, book, connection, drawn


@pytest.mark.parametrize(
    ("name", "canonical", "family"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06", "gpt-4o"),
        ("azure/eu/gpt-4o-2024-08-06", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o", "gpt-4o"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
        ("ft:gpt-3.5-turbo-0613:acme::abc", "ft:gpt-3.5-turbo-0613", "ft:gpt-3.5-turbo"),
        ("openrouter/anthropic/claude-3.5-sonnet", "claude-3.5-sonnet", "claude-3.5-sonnet"),
        ("claude-3-5-sonnet-20240620", "claude-3.5-sonnet-20240620", "claude-3.5-sonnet"),
        ("bedrock/us-east-1/us.anthropic.claude-3-5-sonnet-20240620-v1:0", "claude-3.5-sonnet-20240620", "claude-3.5-sonnet"),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3.5-sonnet-20241022", "claude-3.5-sonnet"),
        ("vertex_ai/claude-3-5-sonnet@20240620", "claude-3.5-sonnet-20240620", "claude-3.5-sonnet"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-opus-4-1-20250805-v1:0",
         "claude-opus-4.1-20250805", "claude-opus-4.1"),
        ("anthropic.claude-v2:1", "claude-2.1", "claude-2.1"),
        ("anthropic.claude-instant-v1", "claude-instant-1", "claude-instant-1"),
        ("anthropic/claude-3.7-sonnet:thinking", "claude-3.7-sonnet:thinking", "claude-3.7-sonnet:thinking"),
        ("meta-llama/llama-3.2-1b-instruct:free", "llama-3.2-1b-instruct:free", "llama-3.2-1b-instruct:free"),
        ("meta.llama3-1-8b-instruct-v1:0", "llama-3.1-8b-instruct", "llama-3.1-8b-instruct"),
        ("fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct", "llama-3.1-8b-instruct", "llama-3.1-8b-instruct"),
        ("deepinfra/meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct", "llama-3.1-8b-instruct"),
        ("mistral.mistral-7b-instruct-v0:2", "mistral-7b-instruct-v0.2", "mistral-7b-instruct-v0.2"),
        ("mistral/mistral-large-2407", "mistral-large-2407", "mistral-large"),
        ("us.deepseek.r1-v1:0", "deepseek-r1", "deepseek-r1"),
        ("openai::gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini"),
        ("google_ai_studio_gemini::gemini-2.0-flash", "gemini-2.0-flash", "gemini-2.0-flash"),
        ("fireworks::accounts/fireworks/models/deepseek-v3", "deepseek-v3", "deepseek-v3"),
        ("deepseek/deepseek-r1", "deepseek-r1", "deepseek-r1"),
        ("gemini-1.5-pro-002", "gemini-1.5-pro-002", "gemini-1.5-pro"),
        ("models/gemini-1.5-pro-latest", "gemini-1.5-pro-latest", "gemini-1.5-pro"),
        ("chat-bison@001", "chat-bison-001", "chat-bison"),
        ("codechat-bison@latest", "codechat-bison", "codechat-bison"),
        ("command-r-08-2024", "command-r-08-2024", "command-r"),
        ("hd/1024-x-1792/dall-e-3", "dall-e-3", "dall-e-3"),
        ("aiml/flux-pro/v1.1-ultra", "flux-pro-v1.1-ultra", "flux-pro-v1.1-ultra"),
        ("llama-3-8b", "llama-3-8b", "llama-3-8b"),
        ("gpt-4-32k", "gpt-4-32k", "gpt-4-32k"),
    ],
)  # fmt: skip
def test_names(name, canonical, family):
    con = connection()
    assert con.execute("select model_name($1), model_family(model_name($1))", [name]).fetchall() == [(canonical, family)]
    # a canonical name is its own canonical name
    assert con.execute("select model_name($1)", [canonical]).fetchall() == [(canonical,)]


@pytest.mark.parametrize(("part", "fits", "fits_not"), [
    ({"equals": "GPT-4"}, ["gpt-4"], ["gpt-4o"]),
    ({"starts_with": "gpt-4-"}, ["gpt-4-0125-preview"], ["gpt-4"]),
    ({"ends_with": "-pro"}, ["sonar-pro"], ["sonar-pro-2"]),
    ({"contains": "Sonnet-4"}, ["us.anthropic.claude-sonnet-4-v1:0"], ["claude-sonnet-3"]),
    ({"regex": r"^opus-5[-@]\d{8}$"}, ["opus-5@20260101"], ["opus-5"]),
    ({"and": [{"starts_with": "flash"}, {"regex": "^(?!.*-[tT][tT][sS](?:$|-))"}]}, ["flash-lite"], ["flash-tts", "flash-tts-1", "pro"]),
    # No name, rather than an error that stops all costing.
    ({"regex": "(?=a)a"}, [], ["a"]), ({"regex": "("}, [], ["("]), ({"soundex": "a"}, [], ["a"]), ({"and": [{"or": [{"equals": "a"}]}]}, [], ["a"]),
])  # fmt: skip
def test_a_part_of_a_feed_s_clause_fits_a_name(part, fits, fits_not):
    con = connection()
    for name, wanted in [*((name, True) for name in fits), *((name, False) for name in fits_not)]:
        assert con.execute("select part_fits(cast($1 as json), $2)", [json.dumps(part), name]).fetchone() == (wanted,), name


def test_one_model_under_many_names():
    con = book("""
    2024-01-01 vertex_ai-anthropic_models vertex_ai/claude-3-5-sonnet@20240620 input_uncached=3
    2024-01-02 bedrock anthropic.claude-3-5-sonnet-20240620-v1:0 input_uncached=3
    2024-01-03 anthropic claude-3-5-sonnet-20240620 input_uncached=3
    """)
    assert drawn(
        con,
        "select alias, provider_name, provider_kind from core.model where model_name = 'claude-3.5-sonnet-20240620' order by 2",
    ) == [
        "claude-3-5-sonnet-20240620 anthropic first_party",
        "anthropic.claude-3-5-sonnet-20240620-v1:0 aws.bedrock cloud_platform",
        "vertex_ai/claude-3-5-sonnet@20240620 gcp.vertex_ai cloud_platform",
    ]


def test_a_provider_nobody_taught_us_keeps_its_word_and_has_no_kind():
    con = book("2024-01-01 NewCloud m input_uncached=3")
    assert drawn(con, "select provider_name, provider_kind from core.model") == ["newcloud -"]


def test_a_word_before_a_dash_names_the_provider():
    con = book("2024-01-01 vertex_ai-unheard_of_models m input_uncached=3")
    assert drawn(con, "select provider_name, provider_kind from core.model") == ["gcp.vertex_ai cloud_platform"]


def test_open_weights_of_a_model_hold_for_all_its_names():
    con = book("""
    2024-01-01 openrouter meta-llama/llama-3-8b input_uncached=1
    2024-01-01 groq groq/llama3-8b input_uncached=1
    """)
    con.execute("update core.price_quote set is_open_weights = true where feed = 'openrouter'")
    con.execute("create or replace table core.model as " + (ROOT / "warehouse/core/model.sql").read_text())
    assert drawn(con, "select alias, is_open_weights from core.model order by 1") == [
        "groq/llama3-8b True",
        "meta-llama/llama-3-8b True",
    ]
