-- Who may do what with policyd's tables. In the database, as its owner or the superuser, after policyd database create,
-- and again after each policyd database upgrade, which may have made tables:
--
--     sudo -u postgres psql --dbname=policyd --file=grants.sql

BEGIN;

-- Nobody else gets in, nor makes tables there; temporary ones only who imports.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO policyd_writer, policyd_reader', current_database()) \gexec
SELECT format('GRANT TEMPORARY ON DATABASE %I TO policyd_writer', current_database()) \gexec
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO policyd_writer, policyd_reader;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, policyd_writer, policyd_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO policyd_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO policyd_writer;

-- The journal only grows, and where it ends is one row.
REVOKE UPDATE, DELETE ON change FROM policyd_writer;
REVOKE INSERT, DELETE ON journal_head FROM policyd_writer;

COMMIT;
