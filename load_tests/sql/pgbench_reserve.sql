\set first_item random(1, :items)
\set second_item 1 + (:first_item + random(0, :items - 2)) % :items
\set first_location random(1, 20)
\set second_location random(1, 20)
SELECT bench_reserve(:first_item, :first_location, :second_item, :second_location);
