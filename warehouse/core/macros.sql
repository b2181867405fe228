-- Names of models, as the same model is called differently by every gateway, cloud and price list.

-- Canonical name: lower case; the last path segment (all prefixes are providers, regions, sizes or owners); no Bedrock region,
-- vendor or revision; versions with dots; Vertex' @date as -date. Dates, -latest, :free and :thinking are part of the name.
--   openrouter/anthropic/claude-3.5-sonnet, claude-3-5-sonnet           -> claude-3.5-sonnet
--   bedrock/us-east-1/us.anthropic.claude-3-5-sonnet-20240620-v1:0      -> claude-3.5-sonnet-20240620
--   vertex_ai/claude-3-5-sonnet@20240620                                -> claude-3.5-sonnet-20240620
create or replace macro model_path(name) as
    -- a last segment that is only a version belongs to the one before it
    regexp_replace(regexp_replace(lower(trim(name)), '/(v[0-9][^/]*)$', '-\1'), '^.*/', '');

create or replace macro model_unvended(name) as
    regexp_replace(
        regexp_replace(
            regexp_replace(name, '^~', ''),
            '^(?:us-gov|us|eu|apac|ap|jp|au|ca|sa|me|global)\.([a-z0-9-]+\.)', '\1'
        ),
        '^(?:ai21|amazon|anthropic|cohere|google|luma|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen|stability|twelvelabs|writer|xai|zai)\.', ''
    );

create or replace macro model_name(name) as
    -- 3-5 is version 3.5 where both are single digits (again: 3-2-1b) and 3p1 is Fireworks' 3.1
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
        model_unvended(model_path(name)),
        '^(ft:[^:]+):.*$', '\1'),
        '@(?:default|latest)$', ''),
        -- Bedrock's deepseek.r1 has the owner as part of the name
        '^deepseek\.(?:deepseek-)?', 'deepseek-'),
        '@', '-', 'g'),
        '^claude(-instant)?-v([0-9])(?::([1-9]).*)?$', 'claude\1-\2-\3'),
        '^(claude.*)-$', '\1'),
        '-v0:([0-9])$', '-v0.\1'),
        '-v[0-9]+:[0-9]+(?::[0-9]+[km])?$', ''),
        '(^|[^0-9])([0-9])-([0-9])(-|$)', '\1\2.\3\4'),
        '([0-9])p([0-9])', '\1.\2'),
        '^(?:meta-)?llama-?v?([0-9])', 'llama-\1');

-- The family that a dated or numbered release belongs to: gpt-4o-2024-08-06 -> gpt-4o, mistral-large-2407 -> mistral-large,
-- gemini-1.5-pro-002 -> gemini-1.5-pro. Takes a canonical name. Only for matching where no exact name is found.
create or replace macro model_family(name) as
    regexp_replace(name, '-(?:20[0-9]{2}-[0-9]{2}-[0-9]{2}|20[0-9]{6}|[0-9]{2}-20[0-9]{2}|[0-9]{2}-[0-9]{2}|[0-9]{4}|00[0-9]|latest)$', '');

-- The service tier that a call is priced at: what every provider calls its ordinary one is standard, and so is no word at all.
create or replace macro price_tier(service_tier) as
    case when service_tier is null or lower(service_tier) in ('standard', 'default', 'auto', 'on_demand', 'scale', 'none') then 'standard'
         else lower(service_tier) end;
