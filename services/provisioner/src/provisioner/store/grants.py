"""Roles by groups: what changed memberships, names and mappings give and take (design section 5, "Roles").

A group gives a role to everybody below it when a mapping names it; a grant (account, role, group) stands while any path
of memberships leads from the account's user to the group. A membership that begins gives what the mappings of that
moment say for its group and all above it; a mapping that comes or goes later changes nothing until it is applied.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts import MAX_EFFECTS, Change, EventType, GrantEffect, SubjectType
from provisioner.results import RoleMoves
from provisioner.rules.decision import Fact, Membership
from provisioner.rules.facts import roles_changed
from provisioner.store.claims import Db

type Grant = tuple[UUID, UUID, UUID]  # account, role, group

KEPT = "kept: the last admin of the organization"

# The mappings at the versions of the batch, with one that is not there yet and without one that shall go (dry runs).
LIVE = """
    live AS (
        SELECT m.organization_id, m.connection_id, m.scim_group_name, m.role_id, m.group_ids, r.is_protected
        FROM unnest($1::uuid[], $2::bigint[]) AS at(organization_id, version)
        JOIN group_mappings m ON m.organization_id = at.organization_id AND m.created_version <= at.version
            AND (m.deleted_version IS NULL OR m.deleted_version > at.version)
        JOIN roles r ON r.id = m.role_id
        WHERE m.id IS DISTINCT FROM $3::uuid
        UNION ALL
        SELECT $4::uuid, $5::uuid, $6::text COLLATE "C", $7::uuid, '{}'::uuid[], false WHERE $7 IS NOT NULL
    ), whole(group_id) AS (
        SELECT unnest($8::uuid[])
        UNION
        SELECT g.id FROM connections c JOIN groups g ON g.connection_id = c.id AND g.version > 0
        WHERE c.organization_id = $9 AND c.deleted_at IS NULL AND ($6 IS NULL OR g.display_name = $6)
    )"""
GIVES = """m.organization_id = c.organization_id AND m.scim_group_name = g.display_name COLLATE "C"
                AND (m.connection_id IS NULL OR m.connection_id = g.connection_id)
                AND (NOT m.is_protected OR g.owns_name OR g.id = ANY(m.group_ids))"""

LOST = f"""
    WITH RECURSIVE {LIVE}, above(group_id) AS (
        SELECT unnest($11::uuid[])
        UNION
        SELECT m.group_id FROM above JOIN memberships m ON m.member_id = above.group_id
    ), suspects AS MATERIALIZED (
        SELECT g.account_id, g.role_id, g.group_id FROM users u JOIN grants g ON g.account_id = u.account_id
        WHERE u.id = ANY($10::uuid[]) AND g.group_id IS NOT NULL
        UNION
        SELECT g.account_id, g.role_id, g.group_id FROM grants g WHERE g.group_id = ANY(ARRAY(
            SELECT group_id FROM above UNION SELECT group_id FROM whole))
    ), reached(account_id, group_id) AS (
        SELECT u.account_id, m.group_id FROM (SELECT DISTINCT account_id FROM suspects) s
        JOIN users u ON u.account_id = s.account_id JOIN memberships m ON m.member_id = u.id
        UNION
        SELECT r.account_id, m.group_id FROM reached r JOIN memberships m ON m.member_id = r.group_id
    ), given AS MATERIALIZED (
        SELECT g.id AS group_id, m.role_id FROM whole w JOIN groups g ON g.id = w.group_id
        JOIN connections c ON c.id = g.connection_id JOIN live m ON {GIVES}
    )
    SELECT s.account_id, s.role_id, s.group_id FROM suspects s
    WHERE (s.account_id, s.group_id) NOT IN (SELECT r.account_id, r.group_id FROM reached r)
       OR (s.group_id IN (SELECT group_id FROM whole)
           AND (s.group_id, s.role_id) NOT IN (SELECT v.group_id, v.role_id FROM given v))
    UNION
    SELECT account_id, role_id, group_id FROM grants
    WHERE group_id = ANY($12::uuid[]) OR (account_id = ANY($13::uuid[]) AND group_id IS NOT NULL)
"""

GAINED = f"""
    WITH RECURSIVE {LIVE}, joined AS (
        SELECT * FROM unnest($10::uuid[], $11::uuid[], $12::text[]) AS k(group_id, member_id, member_type)
    ), above(start, group_id) AS (
        SELECT DISTINCT group_id, group_id FROM joined
        UNION
        SELECT a.start, m.group_id FROM above a JOIN memberships m ON m.member_id = a.group_id
    ), giving AS MATERIALIZED (
        SELECT a.start, g.id AS group_id, m.role_id FROM above a JOIN groups g ON g.id = a.group_id
        JOIN connections c ON c.id = g.connection_id JOIN live m ON {GIVES}
    ), giving_whole AS MATERIALIZED (
        SELECT g.id AS group_id, m.role_id FROM whole w JOIN groups g ON g.id = w.group_id
        JOIN connections c ON c.id = g.connection_id JOIN live m ON {GIVES}
    ), below(top, group_id) AS (
        SELECT member_id, member_id FROM joined
        WHERE member_type = 'Group' AND group_id IN (SELECT start FROM giving)
        UNION
        SELECT group_id, group_id FROM giving_whole
        UNION
        SELECT b.top, m.member_id FROM below b
        JOIN memberships m ON m.group_id = b.group_id AND m.member_type = 'Group'
    ), people AS (
        SELECT b.top, m.member_id AS user_id FROM below b
        JOIN memberships m ON m.group_id = b.group_id AND m.member_type = 'User'
    ), gains AS (
        SELECT j.member_id AS user_id, v.role_id, v.group_id FROM giving v JOIN joined j ON j.group_id = v.start
        WHERE j.member_type = 'User'
        UNION
        SELECT p.user_id, v.role_id, v.group_id FROM giving v
        JOIN joined j ON j.group_id = v.start AND j.member_type = 'Group' JOIN people p ON p.top = j.member_id
        UNION
        SELECT p.user_id, v.role_id, v.group_id FROM giving_whole v JOIN people p ON p.top = v.group_id
    )
    INSERT INTO grants (account_id, role_id, group_id, created_at)
    SELECT u.account_id, gains.role_id, gains.group_id, $13::timestamptz FROM gains JOIN users u ON u.id = gains.user_id
    ON CONFLICT DO NOTHING
    RETURNING account_id, role_id, group_id
"""

# Organizations that would be left without an active admin.
WITHOUT_ADMIN = """
    WITH lost AS (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS k(account_id, role_id, group_id))
    SELECT DISTINCT r.id FROM lost JOIN roles r ON r.id = lost.role_id AND r.is_protected
    WHERE NOT EXISTS (
        SELECT FROM grants g JOIN accounts a ON a.id = g.account_id AND a.status = 'active'
        WHERE g.role_id = r.id
          AND NOT EXISTS (SELECT FROM lost WHERE lost.account_id = g.account_id AND lost.role_id = g.role_id
                                             AND lost.group_id = g.group_id))
"""
ACTIVE = "SELECT id FROM accounts WHERE id = ANY($1::uuid[]) AND status = 'active'"

REMOVE = """
    DELETE FROM grants g USING unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS k(account_id, role_id, group_id)
    WHERE g.account_id = k.account_id AND g.role_id = k.role_id AND g.group_id = k.group_id
"""

KEEP = """
    INSERT INTO grants (account_id, role_id, created_at, label)
    SELECT account_id, role_id, $3::timestamptz, $4 FROM unnest($1::uuid[], $2::uuid[]) AS k(account_id, role_id)
    ON CONFLICT DO NOTHING
"""

# Sets of any size are joined here, and tables are small or found by index either way.
PLAN = "SET LOCAL enable_hashjoin = on"


@dataclass(frozen=True, slots=True)
class RoleChanges:
    """The grants by groups that a batch added and removed, and admins' grants that became manual ones."""

    gained: Sequence[Grant] = ()
    lost: Sequence[Grant] = ()
    kept: Sequence[tuple[UUID, UUID]] = ()

    def effects(self) -> list[GrantEffect]:
        """At most MAX_EFFECTS, losses first."""
        changes = [(grant, False) for grant in self.lost] + [(grant, True) for grant in self.gained]
        return [
            GrantEffect(account_id=account, role_id=role, group_id=group, gained=gained)
            for (account, role, group), gained in changes[:MAX_EFFECTS]
        ]

    def facts(self, moves: RoleMoves, last: Change) -> list[tuple[Change, Fact]]:
        """One for each account, with the change that caused it; `last` where nobody can tell."""
        gained, lost = _by_account(self.gained), _by_account(self.lost)
        facts = []
        for account_id in {**lost, **gained}:
            sources = (*lost[account_id], *gained[account_id])
            cause = next((moves.causes[group] for _, group in sources if group and group in moves.causes), last)
            facts.append((cause, roles_changed(account_id, gained[account_id], lost[account_id])))
        for account_id, role_id in self.kept:
            fact = Fact(EventType.LAST_ADMIN_KEPT, SubjectType.ACCOUNT, account_id, {"roleId": str(role_id)})
            facts.append((last, fact))
        return facts


async def move(
    db: Db, moves: RoleMoves, joined: Sequence[Membership], left: Sequence[Membership], at: datetime
) -> RoleChanges:
    """Within the caller's transaction, behind the rows themselves: take the roles that end, give those that begin."""
    if not moves:
        return RoleChanges()
    await db.execute(PLAN)
    context = _context(moves)
    lost: list[Grant] = []
    kept: list[tuple[UUID, UUID]] = []
    if moves.losses or moves.applied:
        found = await db.fetch(
            LOST,
            *context,
            [member_id for _, member_id, kind in left if kind == "User"],
            [group_id for group_id, _, kind in left if kind == "Group"],
            moves.deleted_groups,
            moves.deleted_accounts,
        )
        lost = [tuple(row) for row in found]
        kept = await _keep_an_admin(db, lost, at)
        await db.execute(REMOVE, *_columns(lost))
    gained: list[Grant] = []
    if moves.gains or moves.applied:
        gained = [tuple(row) for row in await db.fetch(GAINED, *context, *_columns(joined), at)]
    unchanged = set(lost) & set(gained)
    return RoleChanges(
        [grant for grant in gained if grant not in unchanged], [grant for grant in lost if grant not in unchanged], kept
    )


def _context(moves: RoleMoves) -> tuple[Any, ...]:
    """The arguments of LIVE."""
    organization_id, request = moves.applied or (None, None)
    return (
        list(moves.versions),
        list(moves.versions.values()),
        request.without if request else None,
        organization_id,
        request.connection_id if request else None,
        request.scim_group_name if request else None,
        request.role_id if request else None,
        moves.whole_groups,
        organization_id,
    )


async def _keep_an_admin(db: Db, lost: Sequence[Grant], at: datetime) -> list[tuple[UUID, UUID]]:
    """Where nobody would be left, one active account keeps the role, as a manual grant (threat T15)."""
    kept: list[tuple[UUID, UUID]] = []
    for row in await db.fetch(WITHOUT_ADMIN, *_columns(lost)):
        holders = [account_id for account_id, role_id, _ in lost if role_id == row["id"]]
        active = await db.fetch(ACTIVE, holders)
        kept.extend([(min(active)["id"], row["id"])] if active else [])
    if kept:
        await db.execute(KEEP, [account for account, _ in kept], [role for _, role in kept], at, KEPT)
    return kept


def _by_account(grants: Sequence[Grant]) -> defaultdict[UUID, list[tuple[UUID, UUID | None]]]:
    found: defaultdict[UUID, list[tuple[UUID, UUID | None]]] = defaultdict(list)
    for account_id, role_id, group_id in grants:
        found[account_id].append((role_id, group_id))
    return found


def _columns(rows: Sequence[tuple[Any, Any, Any]]) -> list[list[Any]]:
    return [[row[column] for row in rows] for column in range(3)]
