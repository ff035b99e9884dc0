"""Group mappings, `scimGroupName -> role`: `/api/v1/admin/scim/group-mappings` (design sections 5 and 6).

A mapping applies to what changes from then on. Members that there are keep what they have until the mappings are
applied to them, which the provisioner does as one change; a preview is the same change, dry.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Query, Response
from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.changes import admin_change
from admin_api.errors import NotFound, Validation
from admin_api.paging import PagingOf, page, time_and_id
from admin_api.principals import Admin, Principal
from admin_api.service import Core, CoreOf
from admin_api.shapes import Body, Shape, new_router, refusals
from admin_api.store import connections, effects, mappings, roles
from contracts import Effects, MappingRequest, Operation, ResourceType
from directory.tables import GroupMapping, Role

router = new_router("/scim/group-mappings", "group mappings")


def _visible(name: str) -> str:
    if not name.isprintable() or not name.strip():
        raise PydanticCustomError("visible", "must be printable characters, not all of them blanks")
    return name


GroupName = Annotated[
    str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_visible), Field(examples=["Engineering"])
]
RoleName = Annotated[str, StringConstraints(min_length=1, max_length=100), Field(examples=["Auditor"])]


class Rule(Body):
    """Members of the group of exactly this `displayName` get the role.

    `connectionId` narrows it to one connection; without, it is for the groups of all.
    """

    scim_group_name: GroupName
    role_name: RoleName
    connection_id: UUID | None = None


class NewMapping(Rule):
    """`confirm` is needed for protected roles: whoever manages the group makes admins from then on."""

    confirm: bool = False


class MappingShape(Shape):
    """`matchingGroups`: how many groups bear the name now.

    `unconfirmedGroups`: how many of them a protected role does not reach, because they were renamed to the name or took
    another group's place since it was mapped; mapping it again confirms them.
    """

    id: UUID
    scim_group_name: GroupName
    role_name: RoleName
    role_id: UUID
    connection_id: UUID | None
    created_at: datetime
    created_by: Annotated[str, Field(examples=["account:0b6f1c1e-8a52-4f0e-9d3e-6f6a4b1f5a10"])]
    is_protected: bool
    matching_groups: int
    unconfirmed_groups: int


class MappingList(Shape):
    group_mappings: list[MappingShape]
    next_cursor: str | None


class Applying(Body):
    """Which mappings: those of one group name, or all."""

    scim_group_name: GroupName | None = None


class Preview(Body):
    """What if: `mapping` were there, or the mapping `without` were not; with neither, what applying would do."""

    mapping: Rule | None = None
    without: UUID | None = None
    scim_group_name: GroupName | None = None


class GrantShape(Shape):
    """A role that an account gains or loses, through a group or (None) by hand."""

    gained: bool
    account_id: UUID
    email: str | None
    display_name: str
    role_id: UUID
    role_name: str
    group_id: UUID | None
    group_name: str | None


class EffectShape(Shape):
    """`gained` and `lost` count all, `grants` names the first thousand."""

    change_id: UUID
    dry_run: bool
    gained: int
    lost: int
    grants: list[GrantShape]


@router.get("")
async def list_mappings(
    principal: Admin,
    service: CoreOf,
    paging: PagingOf,
    scim_group_name: Annotated[str | None, Query(alias="scimGroupName", max_length=1000)] = None,
    connection_id: Annotated[UUID | None, Query(alias="connectionId")] = None,
) -> MappingList:
    """The organization's mappings, oldest first; of one group name or one connection when asked so."""
    wanted = mappings.Wanted(principal.organization.id, _bindable(scim_group_name), connection_id)
    async with service.transaction() as db:
        found = await mappings.list_mappings(db, wanted, paging.after(time_and_id), paging.limit + 1)
    rows, next_cursor = page(found, paging, lambda row: (row.mapping.created_at, row.mapping.id))
    return MappingList(group_mappings=[_shape(row) for row in rows], next_cursor=next_cursor)


@router.post("", status_code=201, responses=refusals(404, 409))
async def create_mapping(body: NewMapping, principal: Admin, service: CoreOf) -> MappingShape:
    """Map a group name to a role, for changes from now on; apply it for the members that there are.

    A protected role needs `confirm: true`, and reaches only the groups that bear the name now.
    """
    async with service.transaction() as db:
        return await _create(db, principal, body)


@router.get("/{id}", responses=refusals(404))
async def get_mapping(id: UUID, principal: Admin, service: CoreOf) -> MappingShape:
    """One mapping."""
    async with service.transaction() as db:
        row = await mappings.find_mapping(db, principal.organization.id, id)
    if row is None:
        raise NotFound
    return _shape(row)


@router.delete("/{id}", status_code=204, responses=refusals(404))
async def delete_mapping(id: UUID, principal: Admin, service: CoreOf) -> Response:
    """End the mapping for changes from now on; members keep the role until the mappings are applied, or they leave."""
    async with service.transaction() as db:
        await _delete(db, principal, id)
    return Response(status_code=204)


@router.post("/apply", responses=refusals(404, 409, 503))
async def apply_mappings(
    body: Applying,
    principal: Admin,
    service: CoreOf,
    dry_run: Annotated[bool, Query(alias="dryRun", description="Tell what it would do, and do nothing.")] = False,
) -> EffectShape:
    """Give the present members what the mappings say, and take what no mapping says any more; as one change."""
    return await _apply(service, principal, MappingRequest(scim_group_name=body.scim_group_name), dry_run)


@router.post("/preview", responses=refusals(404, 409, 503))
async def preview_mappings(body: Preview, principal: Admin, service: CoreOf) -> EffectShape:
    """Who would gain and lose what, if a mapping were made or taken away and the mappings applied then."""
    return await _apply(service, principal, await _asked(service, principal, body), dry_run=True)


async def confirm_groups(id: UUID, principal: Principal, service: Core) -> MappingShape:
    """Map again, so that a protected role reaches the groups that have come to the name since; raises NotFound."""
    async with service.transaction() as db:
        row = await _delete(db, principal, id)
        rule = {
            "scim_group_name": row.mapping.scim_group_name,
            "role_name": row.role.name,
            "connection_id": row.mapping.connection_id,
        }
        return await _create(db, principal, NewMapping(**rule, confirm=True))


async def group_names(principal: Principal, service: Core, *, limit: int, only_unmapped: bool = False) -> Sequence[str]:
    """Names of groups that identity providers have sent."""
    async with service.transaction() as db:
        return await mappings.list_group_names(db, principal.organization.id, limit=limit, only_unmapped=only_unmapped)


async def _create(db: AsyncSession, principal: Principal, body: NewMapping) -> MappingShape:
    organization_id = principal.organization.id
    role = await _existing_role(db, organization_id, body)
    if role.is_protected and not body.confirm:
        raise Validation(
            f"body.confirm: mapping to the protected role {role.name!r} makes admins of whoever is in the group; "
            "say confirm: true to do that"
        )
    mapping = GroupMapping(
        id=uuid4(),
        organization_id=organization_id,
        connection_id=body.connection_id,
        scim_group_name=body.scim_group_name,
        role_id=role.id,
        group_ids=await mappings.find_groups(db, organization_id, body.scim_group_name, body.connection_id)
        if role.is_protected
        else [],
        created_version=await mappings.raise_version(db, organization_id),
        created_by=principal.actor,
        created_at=datetime.now(UTC),
    )
    await mappings.insert_mapping(db, mapping)
    await _record(db, principal, Act.MAPPING_CREATED, mapping, role)
    row = await mappings.find_mapping(db, organization_id, mapping.id)
    assert row is not None
    return _shape(row)


async def _delete(db: AsyncSession, principal: Principal, id: UUID) -> mappings.Row:
    """The mapping that was live until now; raises NotFound."""
    row = await mappings.find_mapping(db, principal.organization.id, id)
    version = await mappings.raise_version(db, principal.organization.id)
    if row is None or not await mappings.mark_deleted(db, id, version, datetime.now(UTC)):
        raise NotFound
    await _record(db, principal, Act.MAPPING_DELETED, row.mapping, row.role)
    return row


async def _asked(service: Core, principal: Admin, body: Preview) -> MappingRequest:
    organization_id = principal.organization.id
    if body.mapping and body.without:
        raise Validation("body: preview either a new mapping or one taken away")
    async with service.transaction() as db:
        if body.mapping:
            role = await _existing_role(db, organization_id, body.mapping)
            return MappingRequest(
                scim_group_name=body.mapping.scim_group_name,
                role_id=role.id,
                connection_id=body.mapping.connection_id,
            )
        if body.without is None:
            return MappingRequest(scim_group_name=body.scim_group_name)
        row = await mappings.find_mapping(db, organization_id, body.without)
    if row is None:
        raise NotFound
    return MappingRequest(scim_group_name=row.mapping.scim_group_name, without=body.without)


async def _apply(service: Core, principal: Admin, request: MappingRequest, dry_run: bool) -> EffectShape:
    organization_id = principal.organization.id
    change = admin_change(
        organization_id,
        principal.actor,
        ResourceType.GROUP_MAPPING,
        Operation.APPLY,
        organization_id,
        mapping=request,
        dry_run=dry_run or None,
    )
    outcome = await service.changes.decide(change)
    done = outcome.effects or Effects()
    async with service.transaction() as db:
        names = await effects.find_names(db, organization_id, done.grants)
    return EffectShape(
        change_id=change.id,
        dry_run=dry_run,
        gained=done.gained,
        lost=done.lost,
        grants=[GrantShape.model_validate(named) for named in effects.named(done.grants, names)],
    )


async def _existing_role(db: AsyncSession, organization_id: UUID, rule: Rule) -> Role:
    """The role that the rule names; raises NotFound without it, or without the connection."""
    role = await roles.find_role_by_name(db, organization_id, rule.role_name) if rule.role_name.isprintable() else None
    if role is None:
        raise NotFound("there is no role of this name")
    if rule.connection_id and not await connections.is_open(db, organization_id, rule.connection_id):
        raise NotFound("there is no such connection")
    return role


def _bindable(name: str | None) -> str | None:
    """Text that Postgres takes; a name that no mapping can have finds none."""
    return name if name is None or name.isprintable() else ""


def _shape(row: mappings.Row) -> MappingShape:
    mapping = row.mapping
    return MappingShape(
        id=mapping.id,
        scim_group_name=mapping.scim_group_name,
        role_name=row.role.name,
        role_id=row.role.id,
        connection_id=mapping.connection_id,
        created_at=mapping.created_at,
        created_by=mapping.created_by,
        is_protected=row.role.is_protected,
        matching_groups=len(row.groups),
        unconfirmed_groups=len(set(row.latecomers) - set(mapping.group_ids)) if row.role.is_protected else 0,
    )


async def _record(db: AsyncSession, principal: Admin, act: Act, mapping: GroupMapping, role: Role) -> None:
    facts = {
        "scimGroupName": mapping.scim_group_name,
        "roleName": role.name,
        "roleId": str(role.id),
        "isProtected": role.is_protected,
        "connectionId": str(mapping.connection_id) if mapping.connection_id else None,
        "groupIds": [str(id) for id in mapping.group_ids],
    }
    await audit.record(
        db,
        principal.organization.id,
        principal.actor,
        act,
        (Subject.GROUP_MAPPING, mapping.id),
        {"before" if act == Act.MAPPING_DELETED else "after": facts},
        connection_id=mapping.connection_id,
    )
