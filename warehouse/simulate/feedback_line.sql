-- Our own feedback format: one signal a line.
select call_no, given_at, to_json({
    'id': feedback_id, 'target': case when target_kind = 'session' then to_json({'session': target_id}) else to_json({'call': target_id}) end,
    'trace_id': case when target_kind = 'call' then trace_id end, 'name': name, 'kind': kind,
    'value': case when kind = 'boolean' then to_json(value_number = 1) else to_json(value_number) end,
    'rater': {'kind': rater_kind, 'id': rater_id}, 'at': strftime(given_at, '%Y-%m-%dT%H:%M:%SZ')}) as line
from simulate_feedback
where channel = 'feedback'
