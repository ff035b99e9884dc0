"""Outcomes by day: a function that makes partitions ahead and drops those that are older than they must be kept.

Revision ID: 0007
"""

from directory.scripts import run_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Partitions are the owner's, so scim_admin may have them made and dropped by these functions only. A day that has begun
# is never split off: its rows are in the default partition already, and stay there. Replaying the log needs the outcome
# of every change that is in it, so none is dropped within 8 days, one more than the log is kept.
FUNCTIONS = """
-- The smallest UUIDv7 of an instant.
CREATE FUNCTION first_id_of(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

CREATE FUNCTION keep_outcomes(keep_days integer, at timestamptz, OUT created integer, OUT dropped integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
    today date := at::date;
    day date;
    name text;
BEGIN
    created := 0;
    dropped := 0;
    IF keep_days < 8 THEN
        RAISE EXCEPTION 'outcomes are kept at least 8 days' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtext('directory.keep_outcomes')) THEN
        RETURN;  -- another process is at it
    END IF;
    FOR day IN SELECT today + n FROM generate_series(1, 3) AS n LOOP
        name := 'outcomes_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE %I (LIKE outcomes INCLUDING ALL)', name);
            EXECUTE format('ALTER TABLE outcomes ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
                           first_id_of(day::timestamptz), first_id_of((day + 1)::timestamptz));
            created := created + 1;
        EXCEPTION WHEN check_violation THEN
            NULL;  -- somebody's clock is ahead: rows of that day are in the default partition, and so will the rest be
        END;
    END LOOP;
    FOR name, day IN
        SELECT c.relname, to_date(right(c.relname, 8), 'YYYYMMDD')
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'outcomes'::regclass AND c.relname ~ '^outcomes_[0-9]{8}$'
    LOOP
        IF day + 1 <= today - keep_days THEN
            EXECUTE format('DROP TABLE %I', name);
            dropped := dropped + 1;
        END IF;
    END LOOP;
    DELETE FROM outcomes_default WHERE change_id IN (
        SELECT change_id FROM outcomes_default WHERE change_id < first_id_of((today - keep_days)::timestamptz)
        LIMIT 10000
    );
END $$;

REVOKE ALL ON FUNCTION keep_outcomes(integer, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keep_outcomes(integer, timestamptz) TO scim_admin;
"""


def upgrade() -> None:
    """Functions only: admin-api's sweep makes the first partitions, for the days that have not begun."""
    run_script(FUNCTIONS)


def downgrade() -> None:
    """Partitions that were made stay, and go on taking the rows of their days."""
    run_script("DROP FUNCTION keep_outcomes; DROP FUNCTION first_id_of;")
