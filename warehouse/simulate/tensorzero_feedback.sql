-- TensorZero feedback rows: on an inference, or on the episode that is the session.
select call_no, given_at, to_json({
    'id': feedback_id, 'target_id': case when target_kind = 'session' then uuid7(session_key, 'episode', cast(getvariable('day') as timestamp))
        else uuid7(call_key, 'inference', started_at) end,
    'metric_name': name, 'value': case when kind = 'boolean' then to_json(value_number = 1) else to_json(value_number) end,
    'tags': {'author': rater_id, 'rater_kind': rater_kind}, 'timestamp': strftime(given_at, '%Y-%m-%d %H:%M:%S')}) as line
from simulate_feedback
where channel = 'tensorzero'
