-- Two answers to the same prompt, tools and all. Where several things speak of one prompt, the strongest is taken:
-- a correction somebody wrote or an edit they kept, then the last of regenerated answers against the first, then outcomes far enough apart.
with told_call as (
    select c.*, t.prompt, t.tools, t.images, t.answer, md5(t.prompt || coalesce(t.tools, '')) as prompt_key,
        greatest(coalesce(i.finished_at, i.first_token_at, i.started_at), i.started_at + interval 1 microsecond) as answered_at
    from call as c
    join told as t on t.inference_id = c.inference_id
    join core.inference as i on i.inference_id = c.inference_id and i.started_at = c.started_at
    where not c.is_conflicting
),
corrected as (
    select *, row_number() over (partition by inference_id order by given_at desc, correction) as nth
    from (
        select inference_id, given_at, label_source, message_array(joined_answer(said)) as correction
        from (
            select l.inference_id, f.given_at, case when f.kind = 'correction' then 'correction' else 'edit' end as label_source, chat_answer(f.value_text) as said
            from told_call as l join core.feedback as f on f.target_kind = 'call' and f.target_id = l.inference_id
            where (f.kind = 'correction' or (f.kind = 'text' and regexp_matches(lower(f.name), '^(edit|edited|edited_answer|edited_text|rewrite)$'))) and f.value_text is not null
        ) as given
    ) as written
),
-- Nobody asks again before an answer is there: calls that ran side by side are samples, and the last of them is no better for that.
regenerated as (
    select prompt_key, conversation, arg_max(inference_id, {'at': started_at, 'id': inference_id}) as chosen_id, arg_min(inference_id, {'at': answered_at, 'id': inference_id}) as rejected_id
    from told_call
    group by prompt_key, conversation
    having count(distinct answer) > 1 and max(started_at) >= min(answered_at)
),
judged as (
    select prompt_key, arg_max(inference_id, {'s': outcome_share, 'id': inference_id}) as chosen_id, arg_min(inference_id, {'s': outcome_share, 'id': inference_id}) as rejected_id
    from told_call
    where is_matured and outcome_status = 'resolved' and confidence_share >= $confidence_share
    group by prompt_key
    having max(outcome_share) - min(outcome_share) >= $margin
),
pair as (
    select 0 as rank, inference_id as chosen_id, inference_id as rejected_id, label_source from corrected where nth = 1
    union all select 1, chosen_id, rejected_id, 'regenerate' from regenerated
    union all select 2, chosen_id, rejected_id, 'outcome' from judged
),
told_pair as (
    select pair.rank, pair.chosen_id, pair.rejected_id, pair.label_source, chosen.prompt_key, case when pair.label_source in ('correction', 'edit') then corrected.correction else chosen.answer end as better, rejected.answer as worse,
        rejected.outcome_share as worse_share, case when pair.label_source not in ('correction', 'edit') then chosen.outcome_share end as better_share
    from pair
    join told_call as chosen on chosen.inference_id = chosen_id
    join told_call as rejected on rejected.inference_id = rejected_id
    left join corrected on corrected.inference_id = chosen_id and corrected.nth = 1
    -- Signals that say the opposite make no pair.
    where not (pair.label_source = 'regenerate' and coalesce(chosen.outcome_share, 0.5) + $margin < coalesce(rejected.outcome_share, 0.5))
      and not (pair.label_source = 'correction' and coalesce(rejected.outcome_share, 0) >= $good_share)
),
-- Answers that are equal make no pair, and must not take the place of one.
ranked as (
    select *, row_number() over (partition by prompt_key order by rank, chosen_id, rejected_id) as nth from told_pair where better <> worse
)
select r.chosen_id || '|' || r.rejected_id as example_id, r.chosen_id as inference_id, r.rejected_id as rejected_inference_id, c.conversation, c.started_at, c.tenant, c.workload,
    case when r.label_source not in ('correction', 'edit') then c.request_model end as request_model, c.provider_name,
    r.better_share as outcome_share, c.confidence_share, r.label_source, cast(null as boolean) as is_good,
    r.better_share - r.worse_share as margin_share,
    c.input_tokens, case when r.label_source not in ('correction', 'edit') then c.output_text_tokens end as output_text_tokens,
    case when r.label_source not in ('correction', 'edit') then c.finish_reason end as finish_reason, c.prompt, c.tools, c.images, r.better as answer, r.worse as rejected
from ranked as r join told_call as c on c.inference_id = r.chosen_id
where r.nth = 1
