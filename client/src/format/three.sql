BEGIN TRANSACTION;
CREATE TABLE _lakesync_changes (
    change INTEGER PRIMARY KEY, kind, table_number, at_ms, row_id, new_row_id, n0, o0, n1, o1, n2, o2);
INSERT INTO "_lakesync_changes" VALUES(1,1,1,NULL,'018bcfe5-6800-79ba-b2b9-ddd1a912713b',NULL,'milk',NULL,NULL,NULL,NULL,1);
INSERT INTO "_lakesync_changes" VALUES(2,2,2,NULL,NULL,NULL,'x','x',7,1,NULL,'old');
INSERT INTO "_lakesync_changes" VALUES(3,5,2,0,NULL,NULL,NULL,'y',NULL,NULL,NULL,1);
INSERT INTO "_lakesync_changes" VALUES(4,1,3,NULL,NULL,NULL,-5,NULL,'Ünder',NULL,1,NULL);
INSERT INTO "_lakesync_changes" VALUES(5,4,3,NULL,NULL,NULL,-5,-5,'Ünder','Ünder',0,1);
INSERT INTO "_lakesync_changes" VALUES(6,2,2,1699999999000,NULL,NULL,'x','x',8,7,NULL,NULL);
INSERT INTO "_lakesync_changes" VALUES(7,6,2,1699999999000,NULL,NULL,NULL,'y',NULL,2,NULL,NULL);
INSERT INTO "_lakesync_changes" VALUES(8,1,2,1699999999000,NULL,NULL,'y',NULL,3,NULL,'new',NULL);
INSERT INTO "_lakesync_changes" VALUES(9,3,3,1699999999000,NULL,NULL,NULL,-5,NULL,'Ünder',NULL,0);
CREATE TABLE _lakesync_columns (
    table_number INTEGER NOT NULL, slot INTEGER NOT NULL, column_name TEXT NOT NULL, living INTEGER NOT NULL,
    PRIMARY KEY (table_number, slot)
) STRICT, WITHOUT ROWID;
INSERT INTO "_lakesync_columns" VALUES(1,0,'title',1);
INSERT INTO "_lakesync_columns" VALUES(1,1,'done',1);
INSERT INTO "_lakesync_columns" VALUES(1,2,'n',1);
INSERT INTO "_lakesync_columns" VALUES(2,0,'code',1);
INSERT INTO "_lakesync_columns" VALUES(2,1,'count',1);
INSERT INTO "_lakesync_columns" VALUES(2,2,'note',1);
INSERT INTO "_lakesync_columns" VALUES(3,0,'x',1);
INSERT INTO "_lakesync_columns" VALUES(3,1,'what',1);
INSERT INTO "_lakesync_columns" VALUES(3,2,'y',1);
CREATE TABLE _lakesync_commits (
    last INTEGER PRIMARY KEY, first INTEGER NOT NULL, at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "_lakesync_commits" VALUES(1,1,1700000000000);
INSERT INTO "_lakesync_commits" VALUES(2,2,1700000000000);
INSERT INTO "_lakesync_commits" VALUES(3,3,1700000000000);
INSERT INTO "_lakesync_commits" VALUES(4,4,1700000000000);
INSERT INTO "_lakesync_commits" VALUES(5,5,1700000000000);
CREATE TABLE _lakesync_confirmed (
    table_number INTEGER NOT NULL, row_id TEXT NOT NULL, slot INTEGER NOT NULL, value ANY,
    PRIMARY KEY (table_number, row_id, slot)
) STRICT, WITHOUT ROWID;
CREATE TABLE _lakesync_gate (applying INTEGER NOT NULL) STRICT;
INSERT INTO "_lakesync_gate" VALUES(0);
CREATE TABLE _lakesync_meta (
    table_name TEXT PRIMARY KEY, table_number INTEGER NOT NULL UNIQUE, schema_json TEXT NOT NULL,
    gateway_json TEXT, conflict TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO "_lakesync_meta" VALUES('places',3,'{"format":1,"table":"places","version":1,"columns":[{"name":"x","type":"long","number":1},{"name":"what","type":"string","number":2},{"name":"y","type":"boolean","number":3}],"primaryKey":["x","y"],"dropped":[],"nextNumber":4}',NULL,NULL);
INSERT INTO "_lakesync_meta" VALUES('stock',2,'{"format":1,"table":"stock","version":1,"columns":[{"name":"code","type":"string","number":1},{"name":"count","type":"long","number":2},{"name":"note","type":"string","number":3}],"primaryKey":["code"],"dropped":[],"nextNumber":4}',NULL,NULL);
INSERT INTO "_lakesync_meta" VALUES('todos',1,'{"format":1,"table":"todos","version":1,"columns":[{"name":"title","type":"string","number":1},{"name":"done","type":"boolean","number":2},{"name":"n","type":"long","number":3}],"primaryKey":[],"dropped":[],"nextNumber":4}',NULL,NULL);
CREATE TABLE _lakesync_outbox (
    entry INTEGER PRIMARY KEY AUTOINCREMENT, state INTEGER NOT NULL, table_number INTEGER NOT NULL,
    row_id TEXT NOT NULL, hlc INTEGER NOT NULL, doubt INTEGER NOT NULL DEFAULT 0, seq INTEGER, reason TEXT,
    delta BLOB NOT NULL
) STRICT;
INSERT INTO "_lakesync_outbox" VALUES(1,0,2,'x',111411200000000000,0,NULL,NULL,X'0A8E010801120573746F636B1A0178220E0A04636F64651203227822800101220D0A05636F756E7412013180010322100A046E6F74651205226F6C64228001012900000068E5CF8B013201613A4037636638323135353236626235363834633032386135346236623236666566623537303465343234313366626539613839613732346639386330303735356563800101');
INSERT INTO "_lakesync_outbox" VALUES(2,0,2,'y',111411200000000001,0,NULL,NULL,X'0A7C0801120573746F636B1A0179220E0A04636F64651203227922800101220D0A05636F756E741201328001032901000068E5CF8B013201613A4064646132323366373339636638323665393732623033343765346135383464346465303963623134333739653634383763663764363732376331643966613434800101');
CREATE TABLE _lakesync_rows (
    table_number INTEGER NOT NULL, row_id TEXT NOT NULL, clocks BLOB NOT NULL,
    PRIMARY KEY (table_number, row_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "_lakesync_rows" VALUES(2,'x',X'');
INSERT INTO "_lakesync_rows" VALUES(2,'y',X'');
CREATE TABLE _lakesync_seen (
    table_number INTEGER NOT NULL, row_id TEXT NOT NULL, PRIMARY KEY (table_number, row_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE _lakesync_state (
    name TEXT PRIMARY KEY, value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "_lakesync_state" VALUES('client','a');
INSERT INTO "_lakesync_state" VALUES('clock',111411200000000001);
INSERT INTO "_lakesync_state" VALUES('format',3);
INSERT INTO "_lakesync_state" VALUES('named',111411200000000000);
INSERT INTO "_lakesync_state" VALUES('registry',3);
CREATE TABLE "places" (row_id TEXT GENERATED ALWAYS AS (json_array("x", json(CASE "y" WHEN 0 THEN 'false' ELSE 'true' END))) VIRTUAL, "x" INT NOT NULL, "what" TEXT, "y" INT CONSTRAINT "places.y: 0 or 1" CHECK ("y" IN (0, 1)) NOT NULL, PRIMARY KEY ("x", "y")) STRICT;
CREATE TABLE "stock" (row_id TEXT GENERATED ALWAYS AS ("code") VIRTUAL, "code" TEXT CONSTRAINT "stock.code: a text of 1 to 1024 bytes without U+0000" CHECK (length(CAST("code" AS BLOB)) BETWEEN 1 AND 1024 AND instr(CAST("code" AS BLOB), x'00') = 0) NOT NULL, "count" INTEGER, "note" TEXT, PRIMARY KEY ("code")) STRICT;
INSERT INTO "stock" VALUES('x',8,NULL);
INSERT INTO "stock" VALUES('y',3,'new');
CREATE TABLE "todos" (row_id TEXT NOT NULL PRIMARY KEY DEFAULT (printf('%08x-%04x-7%03x-%04x-%s', CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) >> 16, CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) & 65535, random() & 4095, 32768 | (random() & 16383), lower(hex(randomblob(6))))) CONSTRAINT "todos.row_id: a text of 1 to 1024 bytes without U+0000" CHECK (length(CAST(row_id AS BLOB)) BETWEEN 1 AND 1024 AND instr(CAST(row_id AS BLOB), x'00') = 0), "title" TEXT, "done" INTEGER CONSTRAINT "todos.done: 0 or 1" CHECK ("done" IN (0, 1)), "n" INTEGER) STRICT;
INSERT INTO "todos" VALUES('018bcfe5-6800-79ba-b2b9-ddd1a912713b','milk',NULL,NULL);
CREATE INDEX _lakesync_outbox_rows ON _lakesync_outbox (table_number, row_id) WHERE state <= 2;
CREATE INDEX _lakesync_outbox_states ON _lakesync_outbox (state, seq, entry);
CREATE TRIGGER _lakesync_insert_1 AFTER INSERT ON "todos" WHEN (SELECT applying FROM _lakesync_gate) <> 1 BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, row_id, n0, n1, n2) VALUES (1, 1, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, NEW.row_id, NEW."title", NEW."done", NEW."n"); END;
CREATE TRIGGER _lakesync_delete_1 AFTER DELETE ON "todos" WHEN (SELECT applying FROM _lakesync_gate) <> 1 BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, row_id, o0, o1, o2) VALUES (3, 1, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, OLD.row_id, OLD."title", OLD."done", OLD."n"); END;
CREATE TRIGGER _lakesync_update_1 AFTER UPDATE OF "title", "done", "n" ON "todos" WHEN (SELECT applying FROM _lakesync_gate) <> 1 AND NEW."row_id" IS OLD."row_id" AND (NEW."title" IS NOT OLD."title" OR (NEW."done" IS NOT OLD."done" OR NEW."n" IS NOT OLD."n")) BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, row_id, n0, o0, n1, o1, n2, o2) VALUES (2, 1, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, NEW.row_id, CASE WHEN NEW."title" IS NOT OLD."title" THEN NEW."title" END, CASE WHEN NEW."title" IS NOT OLD."title" THEN OLD."title" END, CASE WHEN NEW."done" IS NOT OLD."done" THEN NEW."done" END, CASE WHEN NEW."done" IS NOT OLD."done" THEN OLD."done" END, CASE WHEN NEW."n" IS NOT OLD."n" THEN NEW."n" END, CASE WHEN NEW."n" IS NOT OLD."n" THEN OLD."n" END); END;
CREATE TRIGGER _lakesync_move_1 AFTER UPDATE OF "row_id" ON "todos" WHEN (SELECT applying FROM _lakesync_gate) <> 1 AND NEW."row_id" IS NOT OLD."row_id" BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, row_id, new_row_id, n0, o0, n1, o1, n2, o2) VALUES (4, 1, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, OLD.row_id, NEW.row_id, NEW."title", OLD."title", NEW."done", OLD."done", NEW."n", OLD."n"); END;
CREATE TRIGGER _lakesync_meet_1 BEFORE INSERT ON "todos" WHEN (SELECT applying FROM _lakesync_gate) = 0 BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, row_id, o0, o1, o2) SELECT 6, 1, CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER), t.row_id, "title", "done", "n" FROM "todos" AS t WHERE "row_id" = NEW."row_id"; END;
CREATE TRIGGER _lakesync_insert_2 AFTER INSERT ON "stock" WHEN (SELECT applying FROM _lakesync_gate) <> 1 BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, n0, n1, n2) VALUES (1, 2, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, NEW."code", NEW."count", NEW."note"); END;
CREATE TRIGGER _lakesync_delete_2 AFTER DELETE ON "stock" WHEN (SELECT applying FROM _lakesync_gate) <> 1 BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, o0, o1, o2) VALUES (3, 2, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, OLD."code", OLD."count", OLD."note"); END;
CREATE TRIGGER _lakesync_update_2 AFTER UPDATE OF "count", "note" ON "stock" WHEN (SELECT applying FROM _lakesync_gate) <> 1 AND NEW."code" IS OLD."code" AND (NEW."count" IS NOT OLD."count" OR NEW."note" IS NOT OLD."note") BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, n0, o0, n1, o1, n2, o2) VALUES (2, 2, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, NEW."code", NEW."code", CASE WHEN NEW."count" IS NOT OLD."count" THEN NEW."count" END, CASE WHEN NEW."count" IS NOT OLD."count" THEN OLD."count" END, CASE WHEN NEW."note" IS NOT OLD."note" THEN NEW."note" END, CASE WHEN NEW."note" IS NOT OLD."note" THEN OLD."note" END); END;
CREATE TRIGGER _lakesync_move_2 AFTER UPDATE OF "code" ON "stock" WHEN (SELECT applying FROM _lakesync_gate) <> 1 AND NEW."code" IS NOT OLD."code" BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, n0, o0, n1, o1, n2, o2) VALUES (4, 2, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, NEW."code", OLD."code", NEW."count", OLD."count", NEW."note", OLD."note"); END;
CREATE TRIGGER _lakesync_meet_2 BEFORE INSERT ON "stock" WHEN (SELECT applying FROM _lakesync_gate) = 0 BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, o0, o1, o2) SELECT 6, 2, CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER), "code", "count", "note" FROM "stock" AS t WHERE "code" = NEW."code"; END;
CREATE TRIGGER _lakesync_insert_3 AFTER INSERT ON "places" WHEN (SELECT applying FROM _lakesync_gate) <> 1 BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, n0, n1, n2) VALUES (1, 3, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, NEW."x", NEW."what", NEW."y"); END;
CREATE TRIGGER _lakesync_delete_3 AFTER DELETE ON "places" WHEN (SELECT applying FROM _lakesync_gate) <> 1 BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, o0, o1, o2) VALUES (3, 3, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, OLD."x", OLD."what", OLD."y"); END;
CREATE TRIGGER _lakesync_update_3 AFTER UPDATE OF "what" ON "places" WHEN (SELECT applying FROM _lakesync_gate) <> 1 AND NEW."x" IS OLD."x" AND NEW."y" IS OLD."y" AND NEW."what" IS NOT OLD."what" BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, n0, o0, n2, o2, n1, o1) VALUES (2, 3, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, NEW."x", NEW."x", NEW."y", NEW."y", NEW."what", OLD."what"); END;
CREATE TRIGGER _lakesync_move_3 AFTER UPDATE OF "x", "y" ON "places" WHEN (SELECT applying FROM _lakesync_gate) <> 1 AND (NEW."x" IS NOT OLD."x" OR NEW."y" IS NOT OLD."y") BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, n0, o0, n1, o1, n2, o2) VALUES (4, 3, CASE WHEN (SELECT applying FROM _lakesync_gate) = 0 THEN CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) END, NEW."x", OLD."x", NEW."what", OLD."what", NEW."y", OLD."y"); END;
CREATE TRIGGER _lakesync_meet_3 BEFORE INSERT ON "places" WHEN (SELECT applying FROM _lakesync_gate) = 0 BEGIN INSERT INTO _lakesync_changes (kind, table_number, at_ms, o0, o1, o2) SELECT 6, 3, CAST(((SELECT strftime('%J', 'now', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days', '+0 days')) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER), "x", "what", "y" FROM "places" AS t WHERE "x" = NEW."x" AND "y" = NEW."y"; END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('_lakesync_outbox',2);
COMMIT;
