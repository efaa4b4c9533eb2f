PRAGMA page_size = 512;
CREATE TABLE flows (
    id INTEGER NOT NULL, time INTEGER NOT NULL, host TEXT, bytes INTEGER, PRIMARY KEY (time, id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX flows_id ON flows (id);
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60)
INSERT INTO flows SELECT n, n / 4, CASE n % 5 WHEN 0 THEN NULL ELSE 'C' || n END, (n * 7919) % 1000 FROM n;
INSERT INTO flows VALUES
    (-5, -9223372036854775808, '', 0),
    (9223372036854775807, 9223372036854775807, '"<&,', -1),
    (100, 15, 'Größe', 9223372036854775807);

CREATE TABLE logins (
    id INTEGER PRIMARY KEY, created_at TEXT NOT NULL, name TEXT, score REAL, key BLOB, ok INTEGER, more TEXT,
    day TEXT, price TEXT
);
CREATE INDEX logins_at ON logins (created_at);
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30)
INSERT INTO logins SELECT
    n, strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 + n / 2 * 3600, 'unixepoch'), 'user ' || n, n / 3.0,
    CAST('key' || n AS BLOB), n % 2, json_object('n', n), date(n * 86400, 'unixepoch'), n || '.25' FROM n;
INSERT INTO logins VALUES (31, '2024-02-29T00:00:00.000Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO logins VALUES (32, '0001-01-01T00:00:00.000Z', CAST(x'ff41' AS TEXT), 9e999, x'', 1, '[]', '9999-12-31', '-1');

CREATE TABLE words (word TEXT NOT NULL PRIMARY KEY, at INTEGER NOT NULL, "a b" INTEGER);
CREATE INDEX words_at ON words (at, word);
INSERT INTO words VALUES
    ('a', 1700000000, 1), ('b', 1700000000, NULL), ('a b', 1700000001, 3), ('a/b:c', 1700000002, 4),
    ('é', 1700000003, 5), ('7', 1700000003, 6), ('1700000000:a', 1700000004, 7), ('now', 1700000005, 8);
