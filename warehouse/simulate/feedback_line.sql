-- Our own feedback format: one signal a line.
select call_no, given_at, to_json({
    'feedback_id': feedback_id, 'target_kind': target_kind, 'target_id': target_id, 'trace_id': trace_id, 'name': name, 'kind': kind,
    'value': case when kind = 'boolean' then to_json(value_number = 1) else to_json(value_number) end,
    'rater_kind': rater_kind, 'rater_id': rater_id, 'given_at': strftime(given_at, '%Y-%m-%dT%H:%M:%SZ')}) as line
from simulate_feedback
where channel = 'feedback'
