-- The coordinator: a table that has the flows of all shards, each in the one that the hash of its id names. Once
-- for each shard, numbered from 0, whose own table is there already:
--
--   psql -h COORDINATOR -d flows -v shard=shard_0 -v host=SHARD -v port=5432 -v password=PASSWORD \
--       -v shards=2 -v number=0 -f sharded_by_hash.sql
CREATE EXTENSION IF NOT EXISTS postgres_fdw;

-- The collation that compares texts byte by byte, here as in the shards: then a shard compares for itself.
CREATE TABLE IF NOT EXISTS flows (
    id bigint NOT NULL,
    time bigint NOT NULL,
    duration bigint NOT NULL,
    src_comp text COLLATE "C" NOT NULL,
    src_port text COLLATE "C" NOT NULL,
    dst_comp text COLLATE "C" NOT NULL,
    dst_port text COLLATE "C" NOT NULL,
    protocol bigint NOT NULL,
    packet_count bigint NOT NULL,
    byte_count bigint NOT NULL
) PARTITION BY HASH (id);

-- fetch_size: records that are asked of a shard at a time; batch_size: that are sent to it.
CREATE SERVER :"shard" FOREIGN DATA WRAPPER postgres_fdw OPTIONS (
    host :'host', port :'port', dbname 'flows',
    fetch_size '10000', batch_size '10000', async_capable 'true'
);
CREATE USER MAPPING FOR CURRENT_USER SERVER :"shard" OPTIONS (user 'flows', password :'password');

CREATE FOREIGN TABLE :"shard" PARTITION OF flows FOR VALUES WITH (MODULUS :shards, REMAINDER :number)
    SERVER :"shard" OPTIONS (table_name 'flows');
