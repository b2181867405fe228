-- What the stages hand on, empty at first; a step that finds it there goes on from it.
create table if not exists work.call (inference_id varchar, conversation varchar);
create table if not exists work.held (held_no bigint, word uinteger[]);
create table if not exists work.example (example_no bigint, example_id varchar, prompt varchar, answer varchar, rejected varchar, tools varchar, images varchar);
create table if not exists work.fate (example_no bigint, reason varchar);
create table if not exists work.redaction (example_no bigint, prompt varchar, answer varchar, rejected varchar, tools varchar, images varchar);
create table if not exists work.personal_count (example_no bigint, class varchar, value_md5 varchar);
create table if not exists work.words (example_no bigint, said varchar, prompt_words bigint, answer_words bigint, word uinteger[]);
create table if not exists work.parted (example_no bigint, group_key varchar, split varchar);
create table if not exists work.contrast (held_no bigint, prompt_words bigint, word uinteger[]);
create table if not exists work.review (example_no bigint, doubt_share double, is_doubted boolean);
create table if not exists work.done (step varchar, made varchar);
