-- One row a dirty line of simulate_written: an extra line, or a call's own line where that is late or spoilt.
-- inference_ids are the calls it touches: spoils, repeats or delays.
select $format as format, file, line_no as line, dirt_kind, copy = 1 as is_extra_line, hit_ids as inference_ids
from simulate_written
where copy = 1 or is_spoilt or dirt_kind = 'late'
order by file, line_no
