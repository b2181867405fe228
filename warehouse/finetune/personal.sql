-- Personal data and secrets in JSON text: pattern and checksum. Escapes of JSON are set apart by a unit separator first, so that
-- \nbob@example.com is not read as nbob@example.com; it is taken out again at the end. The arguments of tool calls are read as
-- objects (with_objects of chat.sql), so that a quote that is not escaped always ends a string, and nothing found reaches beyond one.
create or replace macro apart(said) as regexp_replace(said, '\\([nrtbf]|u[0-9A-Fa-f]{4})', '\\\1' || chr(31), 'g');

create or replace macro digits(value) as regexp_replace(value, '[^0-9]', '', 'g');

-- Luhn, ISO/IEC 7812-1: every second digit from the right doubled, digits summed, divisible by ten.
create or replace macro is_luhn(number) as
    list_sum(list_transform(range(len(number)), lambda n:
        case when (len(number) - 1 - n) % 2 = 0 then number[n + 1]::int else (2 * number[n + 1]::int) // 10 + (2 * number[n + 1]::int) % 10 end)) % 10 = 0;

-- ISO 13616: the first four signs moved to the end, letters as numbers from 10 on, modulo 97 is one; sign by sign, so no number is too long.
create or replace macro is_iban(value) as
    len(value) between 15 and 34 and
    list_reduce(list_prepend(0::bigint, list_transform(string_split(substr(value, 5) || left(value, 4), ''), lambda c:
        case when c between '0' and '9' then ascii(c) - 48 else ascii(c) - 55 end::bigint)),
        lambda rest, x: (case when x < 10 then rest * 10 else rest * 100 end + x) % 97) = 1;

create or replace macro may_be_personal(said) as
    regexp_matches(said, '@|%40|[0-9][0-9 /().-]{6,}[0-9]|[0-9]\.[0-9]+\.[0-9]+\.[0-9]|[0-9A-Fa-f]:[0-9A-Fa-f:]{4}|::|sk-|[rsp]k_|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|AIza|xox|hf_|gsk_|xai-|npm_|SG\.|eyJ|PRIVATE KEY|[Bb]earer |[A-Z]{2}[0-9]{2}|\b[a-z]{2}[0-9]{2} ?[0-9]|(?i:key|secret|token|passw|pwd)|nvapi-|r8_|pplx-|tvly-|dapi[0-9a-f]|pypi-|shpat_|dop_v1_|ya29\.|://[^/ ]*:[^/ ]*@');

-- All that is found in a text set `apart`: class and value.
create or replace macro personal_found(said) as
    list_concat(
        list_transform(regexp_extract_all(said,
            '-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^"\\]|\\.)*?-----END [A-Z ]*PRIVATE KEY-----|\b(?:sk-[A-Za-z0-9_-]{16,}|[rsp]k_(?:live|test)_[0-9A-Za-z]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}|AIza[0-9A-Za-z_-]{30,}|xox[abeprs]-[0-9A-Za-z-]{10,}|hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{5,}|nvapi-[A-Za-z0-9_-]{20,}|r8_[A-Za-z0-9]{30,}|pplx-[A-Za-z0-9]{30,}|tvly-[A-Za-z0-9-]{20,}|dapi[0-9a-f]{32}|pypi-[A-Za-z0-9_-]{30,}|shpat_[0-9a-f]{32}|dop_v1_[0-9a-f]{40,}|ya29\.[A-Za-z0-9_-]{20,})|[Bb]earer [A-Za-z0-9._~+/-]{20,}=*'),
            lambda v: {'class': 'KEY', 'value': v}),
        -- What is called a key or a password, and the password in a URL: the value only.
        list_transform(list_filter(regexp_extract_all(said,
            '(?i)\b[a-z0-9_-]*(?:api[_-]?key|access[_-]?key|account[_-]?key|secret(?:[_-]?key)?|auth[_-]?token|access[_-]?token|client[_-]?secret|passw(?:or)?d|pwd)[\\"'' ]{0,6}(?:=>|[:=])[\\"'' ]{0,6}([A-Za-z0-9_./+~!$#%^&*-]{12,}=*)', 1),
            lambda v: regexp_matches(v, '[0-9]') and regexp_matches(v, '[A-Za-z]')), lambda v: {'class': 'KEY', 'value': v}),
        list_transform(regexp_extract_all(said, '://[^/@: "\\]+:([^/@ "\\]{3,})@', 1), lambda v: {'class': 'KEY', 'value': v}),
        list_transform(regexp_extract_all(said, '[\pL0-9._%+-]+(?:@|%40)[\pL0-9-]+(?:\.[\pL0-9-]+)*\.\pL{2,}'), lambda v: {'class': 'EMAIL', 'value': v}),
        list_transform(list_filter(regexp_extract_all(said, '\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?\b|\b[a-z]{2}[0-9]{2}(?:[ -]?[a-z0-9]{4}){2,7}(?:[ -]?[a-z0-9]{1,3})?\b'),
            lambda v: is_iban(upper(regexp_replace(v, '[ -]', '', 'g')))), lambda v: {'class': 'IBAN', 'value': v}),
        list_transform(list_filter(regexp_extract_all(said, '\b(?:3[47][0-9]{2}[ .-]?[0-9]{6}[ .-]?[0-9]{5}|[2-6][0-9]{3}[ .-]?[0-9]{4}[ .-]?[0-9]{4}[ .-]?[0-9]{1,7})\b'),
            lambda v: is_luhn(digits(v))), lambda v: {'class': 'CARD', 'value': v}),
        list_transform(list_filter(regexp_extract_all(said,
            '\b(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\b|\b(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\b|\b(?:(?:fe80|FE80|[fF][cCdD][0-9A-Fa-f]{2}|2[0-9A-Fa-f]{3}):|(?:[0-9A-Fa-f]{1,4}:){2,6})(?::[0-9A-Fa-f]{1,4}){1,5}\b'),
            lambda v: v not in ('0.0.0.0', '127.0.0.1') and regexp_matches(v, '[0-9]')), lambda v: {'class': 'IP', 'value': v}),
        list_transform(list_filter(regexp_extract_all(said,
            '(?:\+|\b00)[1-9][0-9]{0,2}[ .-]?(?:\(0?[0-9]{1,4}\)[ .-]?)?[0-9](?:[ .-]?[0-9]){5,12}|\(?\b[2-9][0-9]{2}\)?[ .-][0-9]{3}[ .-][0-9]{4}\b|\b0[1-9](?:[ .-]?[0-9]{2}){4}\b|\b0[1-9][0-9]{0,4}[ /-][0-9]{3,8}(?:[ -][0-9]{2,8}){0,3}\b'),
            lambda v: len(digits(v)) between 8 and 15), lambda v: {'class': 'PHONE', 'value': v}));

-- A text with each value replaced; `pairs` are value and stand-in, parted by a record separator, the longest value first.
create or replace macro redacted(said, pairs) as
    replace(list_reduce(list_prepend(apart(said), pairs), lambda t, p: replace(t, split_part(p, chr(30), 1), split_part(p, chr(30), 2))), chr(31), '');

-- A stand-in for a number of JSON is a string: outside of strings, which are passed over, it gets quotes.
create or replace macro quoted_numbers(said) as
    replace(replace(regexp_replace(said, '("(?:[^"\\]|\\.)*")|([0-9.eE+-]*(?:\[[A-Z]+_[0-9]+\][0-9.eE+-]*)+)', '\1' || chr(29) || '\2' || chr(29), 'g'), chr(29) || chr(29), ''), chr(29), '"');

-- The same for JSON. What is no JSON then stays as it is, so that the gate sees it.
create or replace macro redacted_json(said, pairs) as
    list_transform([redacted(said, pairs)], lambda t: case when json_valid(t) then t else quoted_numbers(t) end)[1];
