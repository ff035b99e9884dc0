"""What a change does to a SCIM group and its members."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from contracts import Change, Json, MemberChange, Operation
from provisioner.rules.decision import Decision, is_repeat, require_version, succeeded
from provisioner.rules.users import LATE
from provisioner.state import Connection, Directory, Group, Touched
from scim.errors import InvalidValue, NotFound, Uniqueness
from scim.keys import fold_name, name_key
from scim.patch import apply_patch, operations_from_json

MAX_DEPTH = 16  # groups within groups; each level is a step of every question about effective membership


@dataclass(slots=True)
class Members:
    """The net effect of a change on a group's members; those of before are asked for one by one, or all."""

    directory: Directory
    group_id: UUID
    joined: dict[UUID, str] = field(default_factory=dict)
    left: dict[UUID, str] = field(default_factory=dict)

    def add(self, member_id: UUID, member_type: str) -> None:
        if member_id in self.left:
            del self.left[member_id]
        elif not self.directory.is_member(self.group_id, member_id):
            self.joined[member_id] = member_type

    def remove(self, member_id: UUID) -> None:
        if member_id in self.joined:
            del self.joined[member_id]
        elif member_type := self.directory.members(self.group_id).get(member_id):
            self.left[member_id] = member_type

    def remove_all_but(self, kept: set[UUID]) -> None:
        self.joined = {member: kind for member, kind in self.joined.items() if member in kept}
        members = self.directory.members(self.group_id)
        self.left |= {member: kind for member, kind in members.items() if member not in kept}

    def __bool__(self) -> bool:
        return bool(self.joined or self.left)


def create(directory: Directory, connection: Connection, change: Change, applied_at: datetime) -> Decision:
    """A new group with the members that it names."""
    resource = change.resource or {}
    key = name_key(resource["displayName"])
    namesake = directory.group_named(connection.id, key)
    if namesake and is_repeat(namesake, change):
        return Decision(succeeded(change, 201, namesake))
    group = Group(
        id=change.resource_id,
        connection_id=connection.id,
        display_name=resource["displayName"],
        display_name_key=key,
        external_id=resource.get("externalId"),
        resource=resource,
        version=1,
        created_at=change.received_at,
        last_modified=change.received_at,
        late_fingerprint=change.fingerprint if applied_at > change.deadline + LATE else None,
        owns_name=(connection.id, resource["displayName"]) not in directory.borne_names,
        name_version=connection.mappings_version,
    )
    require_unique(directory, group)
    members = members_after(directory, group, change.members or ())
    return Decision(succeeded(change, 201, group), groups=[group], joined=_joined(members))


def replace_(directory: Directory, connection: Connection, change: Change, _: datetime) -> Decision:
    """PUT: the members named are all there are; without any the group is empty."""
    group = find(directory, connection, change)
    everybody = change.members or [MemberChange(op="replace", values=())]
    return changed(directory, connection, group, change, change.resource or {}, everybody)


def patch(directory: Directory, connection: Connection, change: Change, _: datetime) -> Decision:
    """PATCH: all operations or none; members by their differences, so the size of the group does not matter."""
    group = find(directory, connection, change)
    operations = operations_from_json(connection.group_type, change.patch or [])
    resource = apply_patch(connection.group_type, group.resource, operations)
    return changed(directory, connection, group, change, resource, change.members or ())


def changed(
    directory: Directory,
    connection: Connection,
    group: Group,
    change: Change,
    resource: Json,
    member_changes: Sequence[MemberChange],
) -> Decision:
    """The group with this resource and these members; version and lastModified stay when nothing differs."""
    members = members_after(directory, group, member_changes)
    if resource == group.resource and not members:
        return Decision(succeeded(change, 200, group))
    is_renamed = resource["displayName"] != group.display_name
    group = replace(
        group.touched(change.received_at),
        owns_name=group.owns_name and not is_renamed,
        name_version=connection.mappings_version if is_renamed else group.name_version,
        display_name=resource["displayName"],
        display_name_key=name_key(resource["displayName"]),
        external_id=resource.get("externalId"),
        resource=resource,
    )
    require_unique(directory, group)
    left = [(group.id, member, member_type) for member, member_type in members.left.items()]
    return Decision(
        succeeded(change, 200, group),
        groups=[group],
        renamed_group=group.id if is_renamed else None,
        joined=_joined(members),
        left=left,
    )


def delete(directory: Directory, connection: Connection, change: Change, _: datetime) -> Decision:
    """The group goes with its memberships, those in other groups included; its members stay."""
    group = find(directory, connection, change)
    parents = directory.groups_of(group.id)
    return Decision(
        succeeded(change, 204),
        removed_group=group.id,
        groups=[parent.touched(change.received_at) for parent in parents],
        left=[(parent.id, group.id, "Group") for parent in parents],
    )


def find(directory: Directory, connection: Connection, change: Change) -> Group:
    """The change's target, at the version that `If-Match` asks for."""
    group = directory.group(connection.id, change.resource_id)
    if group is None:
        raise NotFound("Group not found")
    require_version(change.if_match, group.version)
    return group


def require_unique(directory: Directory, group: Group) -> None:
    """displayName and externalId are each taken once in a connection."""
    namesake = directory.group_named(group.connection_id, group.display_name_key)
    if namesake and namesake.id != group.id:
        raise Uniqueness("displayName is already in use by another group")
    if group.external_id is None:
        return
    other = directory.group_with_external_id(group.connection_id, group.external_id)
    if other and other.id != group.id:
        raise Uniqueness("externalId is already in use by another group")


def members_after(directory: Directory, group: Group, changes: Iterable[MemberChange]) -> Members:
    """The effect of all member changes in order; raises InvalidValue for a member that the connection does not have."""
    members = Members(directory, group.id)
    for change in changes:
        # What is no UUID is nobody's id: it names nothing, as an empty list does (docs/scim.md).
        ids = [member_id for value in change.values if (member_id := _uuid(value))]
        if change.op == "remove":
            for member_id in ids:
                members.remove(member_id)
            continue
        found = [(member_id, _member_type(directory, group, member_id)) for member_id in ids]
        if change.op == "replace":
            members.remove_all_but(set(ids))
        for member_id, member_type in found:
            members.add(member_id, member_type)
    _require_no_cycle(directory, group, members)
    return members


def _member_type(directory: Directory, group: Group, member_id: UUID) -> str:
    member_type = directory.member_type(group.connection_id, member_id)
    if member_type is None:
        raise InvalidValue(f"The member {member_id} is no user or group of this connection; nothing was changed")
    return member_type


def _require_no_cycle(directory: Directory, group: Group, members: Members) -> None:
    nested = [member for member, kind in members.joined.items() if kind == "Group"]
    if not nested:
        return
    above = directory.levels_above(group.id)
    for member_id in nested:
        if member_id == group.id or group.id in directory.nested_in(member_id):
            raise InvalidValue("A group cannot be a member of itself, directly or through other groups")
        if above + 1 + directory.levels_below(member_id) > MAX_DEPTH:
            raise InvalidValue(f"Groups can be nested at most {MAX_DEPTH} deep")


def _joined(members: Members) -> list[tuple[UUID, UUID, str]]:
    return [(members.group_id, member_id, kind) for member_id, kind in members.joined.items()]


def touch(touched: Touched, change: Change) -> None:
    """Name the group, its new names, and the members that the change speaks of."""
    touched.groups.add(change.resource_id)
    if change.operation is Operation.DELETE:
        touched.leaving.add(change.resource_id)
    for resource in (change.resource, *({part["path"]: part.get("value")} for part in change.patch or ())):
        if isinstance(name := (resource or {}).get("displayName"), str):
            touched.display_names.add((change.connection_id, name))
            touched.group_names.add((change.connection_id, fold_name(name)))
        if isinstance(external_id := (resource or {}).get("externalId"), str):
            touched.group_external_ids.add((change.connection_id, external_id))
    replaces_all = change.operation is Operation.REPLACE
    for members in change.members or ():
        replaces_all |= members.op == "replace"
        ids = {member_id for value in members.values if (member_id := _uuid(value))}
        touched.memberships.update((change.resource_id, member_id) for member_id in ids)
        if members.op != "remove":
            touched.members.update(dict.fromkeys(ids, change.connection_id))
    if replaces_all and change.operation is not Operation.CREATE:
        touched.whole_groups.add(change.resource_id)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
