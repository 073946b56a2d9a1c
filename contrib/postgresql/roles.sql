-- Who may do what in policyd's database on a PostgreSQL server: three roles, which log in and own nothing else.
-- Once for a server, as its superuser:
--
--     sudo -u postgres psql --file=roles.sql
--
-- Then make the database and its tables, and say who may use them (grants.sql). Passwords, if you want them at all, are
-- set with \password in psql, so that they are in no file and no log; certificates need none (pg_hba.conf here).

DO $$
BEGIN
    -- Owns the database and its tables: for policyd database create and upgrade, and for nothing else.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'policyd_owner') THEN
        CREATE ROLE policyd_owner LOGIN;
    END IF;
    -- For administrators' commands. It adds to the journal, and can't alter or remove what is in it.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'policyd_writer') THEN
        CREATE ROLE policyd_writer LOGIN;
    END IF;
    -- For the mail hosts, which follow the database.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'policyd_reader') THEN
        CREATE ROLE policyd_reader LOGIN;
    END IF;
END
$$;

-- A host that hangs holds up neither the server's cleaning nor the other hosts.
ALTER ROLE policyd_reader SET statement_timeout = '60s';
ALTER ROLE policyd_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE policyd_reader SET default_transaction_read_only = on;
