-- datasets.review_queue: calls to look at, the likeliest errors first. review_call and review_scored are made by
-- pipelines/learn/review.py: what similar calls tell is no select.
with scored as (
    select call.inference_id, call.started_at, call.workload, call.model_name, call.thread, call.confidence_share, call.outcome_share,
        found.expected_error_share, found.local_error_share, found.others_error_share, found.linear_error_share, found.disagreement_share, found.entropy_nats, found.like_count,
        row_number() over (order by found.expected_error_share desc, call.inference_id) as rank_number
    from review_scored as found
    join review_call as call on call.inference_id = found.inference_id
)
select
    rank_number, inference_id, started_at, started_at + interval 14 day as review_by_at, nullif(workload, '') as workload, nullif(model_name, '') as model_name,
    expected_error_share, sum(expected_error_share) over (order by rank_number rows between unbounded preceding and current row) as expected_errors_count,
    concat_ws('; ',
        case when outcome_share < 0.5 then 'its own signals are bad' end,
        case when local_error_share >= 1.5 * avg(local_error_share) over () then 'the model failed on prompts like it' end,
        case when others_error_share >= 1.5 * avg(others_error_share) over () then 'other models failed on prompts like it' end,
        case when linear_error_share >= 1.5 * avg(linear_error_share) over () then 'its words and workload go with failures' end,
        case when disagreement_share >= 0.3 then 'the witnesses disagree' end,
        case when entropy_nats >= 0.6 then 'nobody can tell' end) as reasons,
    local_error_share, others_error_share, linear_error_share, disagreement_share, entropy_nats, confidence_share, like_count
from scored
where rank_number <= 5000
