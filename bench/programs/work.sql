-- What the benchmark's SQLite does: loads a table row by row from a generator, makes indexes, joins, groups,
-- updates, and sorts. Whole numbers and text only.
pragma journal_mode = memory;
create table people (id integer primary key, name text, town integer, age integer, note text);
create table towns (id integer primary key, name text, region text);
begin;
with recursive n(i, r) as (
    select 1, 12345
    union all
    select i + 1, (r * 1103515245 + 12345) & 2147483647 from n where i < 18000)
insert into people select i, 'p' || (r % 7919), r / 512 % 200, r / 65536 % 90, substr('abcdefghijklmnopqrstuvwxyz', r % 20 + 1, 6) || i from n;
with recursive n(i) as (select 0 union all select i + 1 from n where i < 199)
insert into towns select i, 'town' || i, 'region' || (i % 7) from n;
commit;
create index by_town on people (town, age);
create index by_name on people (name);
select count(*), sum(age), min(name), max(note) from people;
select t.region, count(*), sum(p.age), max(p.name) from people p join towns t on t.id = p.town
    group by t.region order by t.region;
select p.name, count(*) c from people p group by p.name having c > 4 order by c desc, p.name limit 20;
update people set age = age + 1 where town in (select id from towns where region = 'region3');
delete from people where note like '%99%';
select a.name, a.id, b.id from people a join people b on a.name = b.name and a.id < b.id
    where a.age = b.age order by a.id, b.id limit 30;
select town, age, group_concat(id) from people where town < 3 and age between 20 and 24 group by town, age;
select sum(length(replace(upper(note), 'E', '__'))) from people;
select name, rank() over (partition by town order by age, id) r from people order by r desc, name limit 10;
with recursive fib(i, a, b) as (select 0, 0, 1 union all select i + 1, b, (a + b) % 1000003 from fib where i < 40000)
    select sum(a) from fib;
