-- marts.evaluator: how far each rater could be trusted in a week. evaluator_fit is made by pipelines/outcomes.py, from
-- core.inference and marts.outcome_signal: what needs rounds of estimation cannot be one select.
select
    week_day, signal_name, rater_kind, level, is_last_call, rater_id, rule, shape, array_to_string(cells, ',') as cells,
    signal_count, week_signal_count, base_success_share, present_if_success_share, present_if_failure_share, present_weight, absent_weight,
    weight_1, weight_2, weight_3, weight_4, weight_5, discrimination_share, mean_score_share, week_mean_score_share,
    agreement_share, agreement_share_low, agreement_share_high, peer_agreement_share,
    matured_after_ms, is_constant, is_inverted, is_drifting, is_disagreeing
from evaluator_fit
where week_day >= $from_day and week_day < $to_day
