-- TensorZero feedback rows: on an inference, or on the episode that is the session.
select call_no, given_at, to_json({
    'id': feedback_id, 'target_id': case when target_kind = 'session' then target_id else trace_id end,
    'metric_name': name, 'value': case when kind = 'boolean' then to_json(value_number = 1) else to_json(value_number) end,
    'tags': {'author': rater_id, 'rater_kind': rater_kind}, 'timestamp': strftime(given_at, '%Y-%m-%d %H:%M:%S')}) as line
from simulate_feedback
where channel = 'tensorzero'
