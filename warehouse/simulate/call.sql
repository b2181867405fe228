-- The latent truth of one chunk of calls: $chunk_no numbers it, $calls is its size, $day the UTC day that all of it starts in.
-- A session belongs to one user of one tenant, keeps one workload and one log format, and has one or more calls.
-- A call that fails is often tried again, one that disappoints is often asked again; both repeat the prompt of the call before.
with drawn as (
    select cast($chunk_no as ubigint) * 1099511627776 + cast(range as ubigint) * 256 + 255 as session_key from range($calls)
),
profiled as (
    select *,
        draw_number(session_key, 'format', len(getvariable('formats'))) as format_no,
        draw_number(session_key, 'workload', 8) as workload_no,
        1 + cast(floor(12 * pow(draw(session_key, 'tenant'), 2)) as integer) as tenant_no,
        draw_number(session_key, 'team', 4) as team_no,
        1 + cast(floor(400 * pow(draw(session_key, 'user'), 2)) as integer) as user_no
    from drawn
),
session as (
    select p.*, f.* exclude (format_no, pool_no), w.* exclude (workload_no),
        draw(session_key, 'agent') < w.agent_share as is_agent,
        least(12, 1 + cast(floor(ln(1 - draw(session_key, 'depth')) / ln(w.continue_share)) as integer)) as depth,
        greatest(0.02, least(0.98, w.difficulty + 0.17 * draw_normal(session_key, 'difficulty'))) as session_difficulty,
        draw(session_key, 'long') < w.long_share as is_long
    from profiled p
    join simulate_pool f on f.format_no = p.format_no and f.pool_no = p.workload_no % f.pools + 1
    join simulate_workload w on w.workload_no = p.workload_no
),
numbered as (
    select *, sum(depth) over (order by session_key) - depth as calls_before,
        case when is_agent then 20 + floor(40 * draw(session_key, 'gap')) else 45 + floor(240 * draw(session_key, 'gap')) end as gap_s
    from session
),
started as (
    select *, cast(least(
        floor(1000 * second_of_day(draw(session_key, 'start'), case when is_agent then 0.15 else 0.75 end)),
        86399000 - 1000 * gap_s * depth) as bigint) as session_start_ms
    from numbered
    where calls_before < $calls
),
turn as (
    select *, session_key - 255 + cast(turn_no as ubigint) as call_key,
        session_start_ms + cast(1000 * gap_s * turn_no + floor(8000 * draw(session_key - 255 + cast(turn_no as ubigint), 'jitter')) as bigint) as start_ms
    from (select *, unnest(range(depth)) as turn_no from started)
    where calls_before + turn_no < $calls
),
first_try as (
    select *,
        greatest(0.01, least(0.99, session_difficulty + 0.06 * draw_normal(call_key, 'difficulty'))) as difficulty_drawn,
        1 + cast(floor(pool_size * greatest(0, least(0.999, session_difficulty + 0.12 * draw_normal(call_key, 'guess')))) as integer) as greedy_no,
        draw_number(call_key, 'explore which', pool_size) as explore_no,
        draw(call_key, 'explore') < 0.15 as is_exploring,
        -- The same success draw serves both tries, so a bigger model never does worse on the same call.
        draw(call_key, 'success') as success_drawn,
        draw(call_key, 'failure') as failure_drawn
    from turn
),
judged as (
    select t.*, base_no,
        tells_errors and failure_drawn < failure_share(c.error_share, c.arm, start_ms // 3600000) as base_failed,
        success_drawn < success_share(c.ability, difficulty_drawn) as base_succeeded
    from (select *, case when is_exploring then explore_no else greedy_no end as base_no from first_try) t
    join simulate_choice c on c.pool_id = t.pool_id and c.choice_no = t.base_no
),
wished as (
    select *,
        coalesce(lag(base_failed) over same_session and draw(call_key, 'retry') < 0.85, false) as wants_retry,
        coalesce(not lag(base_succeeded) over same_session and not lag(base_failed) over same_session
            and draw(call_key, 're-ask') < 0.35, false) as wants_reask
    from judged
    window same_session as (partition by session_key order by turn_no)
),
-- A call that follows a repeat is never one itself; so the call before a repeat is always its first try.
repeated as (
    select *,
        wants_retry and not coalesce(lag(wants_retry or wants_reask) over same_session, false) as is_retry,
        wants_reask and not coalesce(lag(wants_retry or wants_reask) over same_session, false) as is_reask
    from wished
    window same_session as (partition by session_key order by turn_no)
),
routed as (
    select *,
        case when is_reask and draw(call_key, 'escalate') < 0.4 then pool_size else base_no end as chosen_no
    from repeated
),
settled as (
    select r.*, a.* exclude (pool_id, choice_no, sells_batch, sells_flex, sells_priority),
        -- The policy: a guess at the difficulty picks the arm, ε = 0.15 explores evenly, 40 % of re-asks go to the dearest arm.
        case when is_reask then 0.4 * cast(chosen_no = pool_size as integer) else 0 end
            + (case when is_reask then 0.6 else 1 end) * (0.85 * cast(chosen_no = greedy_no as integer) + 0.15 / pool_size) as propensity,
        cast(turn_no - cast(is_retry or is_reask as integer) as ubigint) as text_turn_no,
        tells_errors and failure_drawn < failure_share(a.error_share, a.arm, start_ms // 3600000) as is_failed,
        success_drawn < success_share(a.ability, difficulty_drawn) as would_succeed,
        a.reasons and tells_reasoning and reasoning_tokens > 0 as is_reasoning,
        case
            when draw(call_key, 'tier') < 0.06 and r.tells_batch and a.sells_batch then 'batch'
            when draw(call_key, 'tier') < 0.10 and r.tells_flex and a.sells_flex then 'flex'
            when draw(call_key, 'tier') < 0.13 and r.tells_priority and a.sells_priority then 'priority'
            else 'standard'
        end as tier
    from routed r
    join simulate_choice a on a.pool_id = r.pool_id and a.choice_no = r.chosen_no
),
-- The prompt of a turn is the system prompt, the turns before it (the prefix a cache can serve) and the new text.
counted as (
    select *,
        cast(system_tokens + turn_no * (user_tokens + output_tokens) as bigint) as prefix_tokens,
        cast(ceil(least(350000, user_tokens * exp(0.55 * draw_normal(session_key, 'user tokens'))
            * case when is_long then 20 * exp(0.8 * draw_normal(session_key, 'long tokens')) else 1 end)) as bigint) as new_tokens,
        cast(ceil(least(6000, output_tokens * exp(0.6 * draw_normal(call_key, 'output tokens')))) as bigint) as text_tokens,
        case when is_reasoning then cast(ceil(least(9000, reasoning_tokens * exp(0.8 * draw_normal(call_key, 'reasoning tokens'))
            * (0.4 + 1.2 * difficulty_drawn))) as bigint) else 0 end as thinking_tokens,
        cache_kind <> 'none' and system_tokens + turn_no * (user_tokens + output_tokens) >= 1024
            and draw(call_key, 'cache') < case when turn_no > 0 and gap_s < 300 then 0.9 else 0.45 end as is_cached
    from settled
),
shared as (
    select *,
        -- Caches work in blocks of 128 tokens.
        case when is_cached and not is_failed then prefix_tokens // 128 * 128 else 0 end as cache_read,
        case when cache_kind = 'write' and tells_cache_write and not is_failed and prefix_tokens + new_tokens >= 1024
                and (provider_name <> 'openai' or not is_cached)
            then case when is_cached then new_tokens // 2 else prefix_tokens // 128 * 128 end else 0 end as cache_write,
        tells_1h and feed_provider = 'anthropic' and draw(session_key, 'cache lifetime') < 0.3 as is_1h
    from counted
),
classed as (
    select *,
        case when is_failed then 0 else prefix_tokens + new_tokens - cache_read - cache_write end as input_uncached,
        case when is_failed then 0 else text_tokens end as output_text,
        case when is_failed then 0 else thinking_tokens end as reasoning,
        case when tells_web_search and feed_provider = 'anthropic' and not is_failed and tier = 'standard' and draw(call_key, 'search') < 0.03
            then draw_number(call_key, 'searches', 3) else 0 end as searches
    from shared
),
timed as (
    select *,
        cast(ceil(ttft_ms * exp(0.35 * draw_normal(call_key, 'ttft')) + (input_uncached + cache_write) * 0.01) as bigint) as first_token_ms,
        make_timestamp(cast(epoch_us(cast($day as timestamp)) + 1000 * start_ms as bigint)) as started_at
    from classed
),
priced as (
    select t.*,
        least(
            case when is_failed then 120 + cast(floor(900 * draw(call_key, 'failure time')) as bigint)
                else first_token_ms + cast(ceil(1000 * (output_text + reasoning) / tokens_per_s) as bigint) end,
            cast(900 * gap_s as bigint)) as latency_ms,
        p.input_usd * input_uncached + p.cache_read_usd * cache_read
            + case when is_1h then p.cache_write_1h_usd else p.cache_write_5m_usd end * cache_write
            + p.output_usd * (output_text + reasoning) + p.web_search_usd * searches as cost_usd,
        p.input_usd * input_uncached as input_cost_usd, p.cache_read_usd * cache_read as cache_read_cost_usd,
        case when is_1h then p.cache_write_1h_usd else p.cache_write_5m_usd end * cache_write as cache_write_cost_usd,
        p.output_usd * (output_text + reasoning) as output_cost_usd
    from timed t
    join simulate_price p on p.arm = t.arm and p.service_tier = t.tier
        and p.valid_from <= t.started_at and t.started_at < p.valid_to
        and t.input_uncached + t.cache_read + t.cache_write > p.above_tokens
        and t.input_uncached + t.cache_read + t.cache_write <= p.up_to_tokens
),
-- Every id is a text that its own format would carry.
identified as (
    select *,
        case when is_agent then session_key when is_retry then call_key - 1 else call_key end as trace_key,
        case
            when is_failed then null
            when draw(call_key, 'finish') < 0.004 then 'content_filter'
            when draw(call_key, 'finish') < 0.024 then 'length'
            when is_agent and draw(call_key, 'finish') < 0.40 then 'tool_calls'
            else 'stop'
        end as finish_reason,
        case when not is_failed then 200 when draw(call_key, 'failure kind') < 0.6 then 429
            when draw(call_key, 'failure kind') < 0.8 then 504 else 500 end as http_status,
        hex16(case when is_agent then session_key when is_retry then call_key - 1 else call_key end, 'trace')
            || hex16(case when is_agent then session_key when is_retry then call_key - 1 else call_key end, 'trace low') as trace_id,
        case format
            when 'litellm' then 'chatcmpl-' || uuid4(call_key, 'id')
            when 'litellm_spend' then 'chatcmpl-' || uuid4(call_key, 'id')
            when 'openai' then case when draw(call_key, 'api') < 0.25 and tier <> 'batch' then 'resp_' else 'chatcmpl-' end || hex16(call_key, 'id') || hex16(call_key, 'id low')
            when 'anthropic' then 'msg_01' || hex16(call_key, 'id') || hex16(call_key, 'id low')[1:8]
            when 'otel' then hex16(call_key, 'id')
            when 'tensorzero' then uuid7(call_key, 'id', started_at)
            else uuid4(call_key, 'id')
        end as native_id
    from priced
)
select
    row_number() over (order by started_at, call_key) as call_no, call_key, session_key, turn_no, text_turn_no, workload_no, arm,
    system || ':' || case when format = 'otel' then trace_id || ':' || native_id else native_id end as inference_id,
    native_id, format, format('tenant-{:02d}', tenant_no) as tenant, ['support', 'finance', 'engineering', 'operations'][team_no] as team,
    format('user-{:02d}-{:04d}', tenant_no, user_no) as user_id,
    -- TensorZero has episodes for sessions, and an inference is the trace of its model inference.
    case when format = 'tensorzero' then uuid7(session_key, 'episode', cast($day as timestamp)) else 's-' || hex16(session_key, 'session') end
        as session_id,
    case when format = 'tensorzero' then uuid7(call_key, 'inference', started_at) else trace_id end as trace_id, hex16(trace_key, 'root span') as parent_id,
    workload, case when is_agent then 'agent' else 'human' end as traffic_kind,
    feed_provider, provider_name, litellm_provider, request_model, response_model,
    case when feed_provider = 'aws' then ['eu-west-1', 'us-east-1', 'eu-central-1'][1 + tenant_no % 3] end as request_region,
    case when feed_provider <> 'aws' then null
        when draw(call_key, 'region') < 0.3 then ['eu-north-1', 'us-west-2', 'eu-west-3'][1 + tenant_no % 3]
        else ['eu-west-1', 'us-east-1', 'eu-central-1'][1 + tenant_no % 3] end as served_region,
    tier as service_tier, tier <> 'batch' and not is_agent and not is_failed as is_streaming,
    started_at,
    case when tier <> 'batch' and not is_agent and not is_failed
        then started_at + to_milliseconds(least(first_token_ms, latency_ms)) end as first_token_at,
    started_at + to_milliseconds(latency_ms) as finished_at,
    latency_ms, case when not is_failed then least(first_token_ms, latency_ms) end as ttft_ms,
    input_uncached as input_uncached_tokens, cache_read as cache_read_tokens,
    case when is_1h then 0 else cache_write end as cache_write_5m_tokens, case when is_1h then cache_write else 0 end as cache_write_1h_tokens,
    cache_write as cache_write_tokens, input_uncached + cache_read + cache_write as input_tokens,
    output_text as output_text_tokens, reasoning as reasoning_tokens, output_text + reasoning as output_tokens,
    searches as web_search_requests,
    cast(cost_usd as decimal(18, 12)) as true_cost_usd,
    cast(input_cost_usd as decimal(18, 12)) as input_cost_usd, cast(cache_read_cost_usd as decimal(18, 12)) as cache_read_cost_usd,
    cast(cache_write_cost_usd as decimal(18, 12)) as cache_write_cost_usd, cast(output_cost_usd as decimal(18, 12)) as output_cost_usd,
    case when is_failed then 'error' else 'ok' end as status, http_status,
    case http_status when 429 then 'RateLimitError' when 504 then 'Timeout' when 500 then 'InternalServerError' end as error_type,
    finish_reason, cast(coalesce(finish_reason = 'tool_calls', false) as integer) as tool_call_count,
    is_retry, is_reask, cast(is_retry as integer) as retry_count,
    difficulty_drawn as difficulty, would_succeed and not is_failed and coalesce(finish_reason, '') <> 'content_filter' as success,
    'greedy-explore-v1' as routing_policy, pool_id, propensity as routing_propensity,
    session_difficulty > 0.55 as is_hard, xor(session_key, hash(text_turn_no)) as text_key,
    case when text_turn_no > 0 then xor(session_key, hash(text_turn_no - 1)) end as earlier_text_key
from identified
order by call_no
