-- Good answers with what was asked.
select c.inference_id as example_id, c.inference_id, cast(null as varchar) as rejected_inference_id, c.conversation, c.started_at, c.tenant, c.workload, c.request_model, c.provider_name,
    c.outcome_share, c.confidence_share, 'outcome' as label_source, cast(null as boolean) as is_good, cast(null as double) as margin_share,
    c.input_tokens, c.output_text_tokens, c.finish_reason,
    t.prompt, t.tools, t.images, t.answer, cast(null as varchar) as rejected
from call as c join told as t on t.inference_id = c.inference_id
where c.is_matured and c.outcome_status = 'resolved' and not c.is_conflicting and c.outcome_share >= $good_share and c.confidence_share >= $confidence_share
