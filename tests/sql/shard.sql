-- A shard: the table that has its part of the flows, and the indexes that give them by (time, id) and by id.
--
--   psql -h SHARD -d flows -f shard.sql
CREATE TABLE flows (
    id bigint NOT NULL,
    time bigint NOT NULL,
    duration bigint NOT NULL,
    src_comp text COLLATE "C" NOT NULL,
    src_port text COLLATE "C" NOT NULL,
    dst_comp text COLLATE "C" NOT NULL,
    dst_port text COLLATE "C" NOT NULL,
    protocol bigint NOT NULL,
    packet_count bigint NOT NULL,
    byte_count bigint NOT NULL,
    PRIMARY KEY (time, id)
);
CREATE UNIQUE INDEX flows_id ON flows (id);
