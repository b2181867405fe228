-- core.capability: what a leaderboard says about every model, under canonical names; of two files that rate the same day the later counts.
with told as (
    select
        file.source, said.scale, said.rated_name, coalesce(said.rated_day, file.landed_day) as rated_day, said.rating, file.landing_file,
        row_number() over (
            partition by said.scale, said.rated_name, coalesce(said.rated_day, file.landed_day)
            order by file.landed_day desc, file.landing_file desc, said.rating
        ) as choice
    from staging.capability as said
    join staging.capability_file as file on file.local = said.landing_file
    where said.rating is not null
)
select
    told.source, told.scale, told.rated_name, coalesce(alias.model_name, model_name(told.rated_name)) as model_name, told.rated_day, told.rating,
    told.landing_file
from told
-- A board's own name for a model; names that meant several models in turn are for prices only.
left join model_alias as alias on alias.alias = model_name(told.rated_name) and alias.valid_from is null
where told.choice = 1
