"""Who holds which role, and through what."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.store.database import AnyRow

# A manual grant has no group; the smallest uuid stands for it in the order and in cursors.
HOLDERS = text("""
    SELECT r.name AS role, r.id AS role_id, r.is_protected, a.id AS account_id, a.email, a.display_name, a.status,
           a.break_glass, g.group_id, n.display_name AS group_name, c.id AS connection_id, c.provider_id, g.label,
           g.created_at AS granted_at
    FROM roles r
    JOIN grants g ON g.role_id = r.id
    JOIN accounts a ON a.id = g.account_id
    LEFT JOIN groups n ON n.id = g.group_id
    LEFT JOIN connections c ON c.id = n.connection_id
    WHERE r.organization_id = :organization
        AND (CAST(:after_role AS text) IS NULL
            OR (r.name, a.id, coalesce(g.group_id, '00000000-0000-0000-0000-000000000000'))
                > (:after_role, CAST(:after_account AS uuid), CAST(:after_group AS uuid)))
    ORDER BY r.name, a.id, coalesce(g.group_id, '00000000-0000-0000-0000-000000000000')
    LIMIT :limit
""")

# Effective roles are those of active accounts.
ROLES = text("""
    SELECT r.name AS role, r.id AS role_id, r.is_protected, r.permissions,
           count(DISTINCT g.account_id) AS accounts,
           count(DISTINCT g.account_id) FILTER (WHERE a.status = 'active') AS active_accounts,
           count(DISTINCT g.account_id) FILTER (WHERE g.group_id IS NULL) AS by_hand,
           count(DISTINCT g.account_id) FILTER (WHERE g.group_id IS NOT NULL) AS by_groups
    FROM roles r LEFT JOIN grants g ON g.role_id = r.id LEFT JOIN accounts a ON a.id = g.account_id
    WHERE r.organization_id = :organization
    GROUP BY r.id ORDER BY r.name
""")

ADMINS = text("""
    SELECT a.id AS account_id, a.email, a.display_name, a.status, a.break_glass,
           bool_or(g.group_id IS NOT NULL) AS by_group
    FROM roles r JOIN grants g ON g.role_id = r.id JOIN accounts a ON a.id = g.account_id
    WHERE r.organization_id = :organization AND r.is_protected
    GROUP BY a.id ORDER BY a.created_at, a.id LIMIT :limit
""")

BREAK_GLASS = text("""
    SELECT a.id AS account_id, a.email, a.display_name, a.status, a.break_glass, false AS by_group
    FROM accounts a WHERE a.organization_id = :organization AND a.break_glass
    ORDER BY a.created_at, a.id LIMIT :limit
""")


async def list_holders(
    db: AsyncSession, organization_id: UUID, *, after: tuple[str, UUID, UUID] | None, limit: int
) -> Sequence[AnyRow]:
    """Every grant with its account, by role."""
    role, account, group = after or (None, None, None)
    values = {"after_role": role, "after_account": account, "after_group": group, "limit": limit}
    return (await db.execute(HOLDERS, {"organization": organization_id, **values})).all()


async def list_roles(db: AsyncSession, organization_id: UUID) -> Sequence[AnyRow]:
    """The roles with how many accounts hold them."""
    return (await db.execute(ROLES, {"organization": organization_id})).all()


async def list_admins(db: AsyncSession, organization_id: UUID, limit: int) -> Sequence[AnyRow]:
    """Accounts with a protected role, suspended ones too."""
    return (await db.execute(ADMINS, {"organization": organization_id, "limit": limit})).all()


async def list_break_glass(db: AsyncSession, organization_id: UUID, limit: int) -> Sequence[AnyRow]:
    return (await db.execute(BREAK_GLASS, {"organization": organization_id, "limit": limit})).all()
