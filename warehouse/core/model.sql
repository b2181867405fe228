-- core.model: every name under which a provider sells a model, with the model's canonical name and what the feeds say about it.
--
-- A fact is the latest that any feed states; facts of a model itself (open weights, release) hold for all its names.
with listing as (
    select
        lower(feed_model) as alias, provider_name, provider_kind, model_name, feed, quoted_at, mode, context_window_tokens, max_output_tokens,
        deprecation_day, release_day, hugging_face_id, is_open_weights
    from core.price_quote
    where provider_name is not null
),
alias as (
    select
        alias,
        provider_name,
        any_value(provider_kind) as provider_kind,
        arg_max(model_name, (quoted_at, feed, model_name)) as model_name,
        arg_max(mode, (quoted_at, feed, mode)) filter (where mode is not null) as mode,
        arg_max(context_window_tokens, (quoted_at, feed, context_window_tokens)) filter (where context_window_tokens is not null) as context_window_tokens,
        arg_max(max_output_tokens, (quoted_at, feed, max_output_tokens)) filter (where max_output_tokens is not null) as max_output_tokens,
        arg_max(deprecation_day, (quoted_at, feed, deprecation_day)) filter (where deprecation_day is not null) as deprecation_day,
        min(quoted_at) as first_listed_at,
        max(quoted_at) as last_listed_at
    from listing
    group by alias, provider_name
),
model as (
    select
        model_name,
        arg_max(is_open_weights, (quoted_at, feed, alias, is_open_weights)) filter (where is_open_weights is not null) as is_open_weights,
        arg_max(release_day, (quoted_at, feed, alias, release_day)) filter (where release_day is not null) as release_day,
        arg_max(hugging_face_id, (quoted_at, feed, alias, hugging_face_id)) filter (where hugging_face_id is not null) as hugging_face_id
    from listing
    group by model_name
)
select
    alias.alias,
    alias.provider_name,
    alias.provider_kind,
    alias.model_name,
    model_family(alias.model_name) as model_family,
    alias.mode,
    model.is_open_weights,
    alias.context_window_tokens,
    alias.max_output_tokens,
    model.release_day,
    alias.deprecation_day,
    model.hugging_face_id,
    alias.first_listed_at,
    alias.last_listed_at
from alias
join model using (model_name)
