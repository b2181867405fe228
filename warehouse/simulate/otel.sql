-- OTLP/JSON, one ExportTraceServiceRequest a session, in three dialects: the current GenAI conventions, Traceloop's older
-- names and OpenInference. int64 are strings. Input counts include the cache, output counts include reasoning.
with attributed as (
    select *, (session_key >> 8) % 4 as dialect,
        to_json(messages(workload_no, is_hard, earlier_text_key, text_key)) as asked, answer_text(workload_no, text_key) as answered
    from simulate_call
    where format = 'otel'
),
spanned as (
    select *, {
        'traceId': trace_id, 'spanId': native_id, 'parentSpanId': case when traffic_kind = 'agent' then parent_id end,
        'name': 'chat ' || request_model, 'kind': 3,
        'startTimeUnixNano': cast(epoch_ns(started_at) as varchar), 'endTimeUnixNano': cast(epoch_ns(finished_at) as varchar),
        'attributes': list_filter(case when dialect < 2 then [
            text_attribute('gen_ai.operation.name', 'chat'), text_attribute('gen_ai.provider.name', provider_name),
            text_attribute('gen_ai.request.model', request_model), text_attribute('gen_ai.response.model', response_model),
            int_attribute('gen_ai.usage.input_tokens', input_tokens), int_attribute('gen_ai.usage.output_tokens', output_tokens),
            int_attribute('gen_ai.usage.cache_read.input_tokens', cache_read_tokens),
            int_attribute('gen_ai.usage.cache_write.input_tokens', cache_write_tokens),
            int_attribute('gen_ai.usage.reasoning.output_tokens', reasoning_tokens),
            texts_attribute('gen_ai.response.finish_reasons', finish_reason),
            text_attribute('gen_ai.conversation.id', session_id), text_attribute('error.type', error_type),
            text_attribute('tenant.id', tenant), text_attribute('team.id', team), text_attribute('user.id', user_id),
            text_attribute('routing.policy', routing_policy), text_attribute('routing.candidates', getvariable('candidates')[pool_id]),
            double_attribute('routing.propensity', routing_propensity),
            text_attribute('gen_ai.input.messages', cast(asked as varchar)),
            text_attribute('gen_ai.output.messages', cast(to_json([{'role': 'assistant', 'parts': list_concat(
                [to_json({'type': 'text', 'content': answered})], case when tool_call_count > 0 then
                [to_json({'type': 'tool_call', 'id': 'call_' || hex16(call_key, 'tool'), 'name': 'look_up', 'arguments': {'reference': 7}})] else [] end)}]) as varchar))]
        when dialect = 2 then [
            text_attribute('llm.request.type', 'chat'), text_attribute('gen_ai.system', provider_name),
            text_attribute('gen_ai.request.model', request_model), text_attribute('gen_ai.response.model', response_model),
            int_attribute('gen_ai.usage.prompt_tokens', input_tokens), int_attribute('gen_ai.usage.completion_tokens', output_tokens),
            int_attribute('llm.usage.total_tokens', input_tokens + output_tokens),
            int_attribute('gen_ai.usage.cache_read_input_tokens', cache_read_tokens),
            int_attribute('gen_ai.usage.cache_creation_input_tokens', cache_write_tokens),
            int_attribute('gen_ai.usage.reasoning_tokens', reasoning_tokens),
            text_attribute('gen_ai.completion.0.finish_reason', finish_reason), text_attribute('error.type', error_type),
            text_attribute('gen_ai.prompt.0.role', 'user'), text_attribute('gen_ai.prompt.0.content', user_text(workload_no, is_hard, text_key)),
            text_attribute('gen_ai.completion.0.role', 'assistant'), text_attribute('gen_ai.completion.0.content', answered),
            text_attribute('traceloop.workflow.name', workload), text_attribute('traceloop.association.properties.session_id', session_id),
            text_attribute('traceloop.association.properties.user_id', user_id), text_attribute('tenant.id', tenant), text_attribute('team.id', team),
            text_attribute('routing.policy', routing_policy), text_attribute('routing.candidates', getvariable('candidates')[pool_id]),
            double_attribute('routing.propensity', routing_propensity)]
        else [
            text_attribute('openinference.span.kind', 'LLM'), text_attribute('llm.provider', provider_name),
            text_attribute('llm.model_name', response_model),
            int_attribute('llm.token_count.prompt', input_tokens), int_attribute('llm.token_count.completion', output_tokens),
            int_attribute('llm.token_count.total', input_tokens + output_tokens),
            int_attribute('llm.token_count.prompt_details.cache_read', cache_read_tokens),
            int_attribute('llm.token_count.prompt_details.cache_write', cache_write_tokens),
            int_attribute('llm.token_count.completion_details.reasoning', reasoning_tokens),
            text_attribute('llm.finish_reason', finish_reason), text_attribute('session.id', session_id), text_attribute('user.id', user_id),
            text_attribute('error.type', error_type), text_attribute('tenant.id', tenant), text_attribute('team.id', team),
            text_attribute('llm.input_messages.0.message.role', 'user'),
            text_attribute('llm.input_messages.0.message.content', user_text(workload_no, is_hard, text_key)),
            text_attribute('llm.output_messages.0.message.role', 'assistant'), text_attribute('llm.output_messages.0.message.content', answered),
            text_attribute('routing.policy', routing_policy), text_attribute('routing.candidates', getvariable('candidates')[pool_id]),
            double_attribute('routing.propensity', routing_propensity)]
        end, lambda attribute: attribute is not null),
        'events': case when f.call_key is not null then [{'name': 'gen_ai.evaluation.result', 'timeUnixNano': cast(epoch_ns(f.given_at) as varchar),
            'attributes': [text_attribute('gen_ai.evaluation.name', f.name), double_attribute('gen_ai.evaluation.score.value', f.value_number),
                text_attribute('gen_ai.response.id', a.native_id)]}] end,
        'status': {'code': case when status = 'ok' then 1 else 2 end}} as span
    from attributed a
    left join (select call_key, name, value_number, given_at from simulate_feedback where channel = 'otel') f using (call_key)
)
select min(call_no) as call_no, list(inference_id order by call_no) as inference_ids, to_json({'resourceSpans': [{
    'resource': {'attributes': [text_attribute('service.name', any_value(workload)), text_attribute('deployment.environment.name', 'production')]},
    'scopeSpans': [{'scope': {'name': case when any_value(dialect) < 3 then 'opentelemetry.instrumentation.genai' else 'openinference.instrumentation' end},
        'spans': list_concat(list(span order by call_no), case when any_value(traffic_kind) = 'agent' then [{
            'traceId': any_value(trace_id), 'spanId': any_value(parent_id), 'parentSpanId': null, 'name': 'invoke_agent ' || any_value(workload), 'kind': 1,
            'startTimeUnixNano': cast(epoch_ns(min(started_at)) as varchar), 'endTimeUnixNano': cast(epoch_ns(max(finished_at)) as varchar),
            'attributes': [text_attribute('gen_ai.operation.name', 'invoke_agent'), text_attribute('gen_ai.agent.name', any_value(workload))],
            'events': null, 'status': {'code': 1}}] else [] end)}]}]}) as line
from spanned
group by session_key
