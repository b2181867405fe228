create or replace temp view living as
    select * from example where example_no not in (select example_no from fate);
-- With stand-ins where personal data was found.
create or replace temp view clean as
    select e.* replace (
        case when r.example_no is null then e.prompt else r.prompt end as prompt, case when r.example_no is null then e.answer else r.answer end as answer,
        case when r.example_no is null then e.rejected else r.rejected end as rejected, case when r.example_no is null then e.tools else r.tools end as tools,
        case when r.example_no is null then e.images else r.images end as images)
    from living as e left join redaction as r on r.example_no = e.example_no;
create or replace temp view dataset_row as
    select clean.*, parted.group_key, parted.split, review.doubt_share, review.is_doubted
    from clean join parted on parted.example_no = clean.example_no left join review on review.example_no = clean.example_no;
