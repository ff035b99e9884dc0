#!/usr/bin/env bash
# Runs once, when the database is made: the schema's owner, who is no superuser. `directory-sync migrate` makes the
# services' roles.
set -euo pipefail
psql -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres -v password="$(</run/secrets/owner_password)" <<'SQL'
CREATE ROLE directory_owner LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE directory OWNER directory_owner;
SQL
