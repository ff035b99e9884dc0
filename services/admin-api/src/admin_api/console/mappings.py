"""Group mappings: `/admin/scim/mappings`. Whoever makes, ends or applies one sees first who gains and loses what."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from admin_api import connections, mappings, roles
from admin_api.console import frame
from admin_api.console.forms import Problems, parse, problems_of
from admin_api.console.session import Form, PageAdmin, Posted
from admin_api.errors import ApiError
from admin_api.mappings import Applying, EffectShape, MappingShape, NewMapping, Preview, Rule
from admin_api.paging import MAX_LIMIT, Paging, PagingOf
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf

router = APIRouter(prefix="/admin/scim/mappings", include_in_schema=False)

HERE = router.prefix
_OFFERED = 1000  # names of groups for completion
_CHIPS = 24  # groups without a mapping that are shown


@router.get("")
async def show_all(
    request: Request,
    principal: PageAdmin,
    service: ServiceOf,
    paging: PagingOf,
    group: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """The mappings, and groups that have none."""
    names = {each.id: each.provider_id for each in await _connections(principal, service)}
    return frame.page(
        request,
        "mappings.html",
        mappings=await mappings.list_mappings(principal, service, paging, group or None),
        unmapped=await mappings.group_names(principal, service, limit=_CHIPS + 1, only_unmapped=True),
        most=_CHIPS,
        connection_names=names,
        group=group,
        is_first=paging.cursor is None,
    )


@router.get("/new")
async def ask_new(
    request: Request, principal: PageAdmin, service: ServiceOf, group: Annotated[str, Query(max_length=1000)] = ""
) -> Response:
    """Which group gives which role."""
    return await _new(request, principal, service, {**_typed(Form([])), "scimGroupName": group})


@router.post("/new")
async def make(request: Request, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Preview the mapping, or make it."""
    typed = _typed(form)
    is_preview = form.get("act") == "preview"
    values = {name: typed[name] for name in ("scimGroupName", "roleName")}
    values |= {"connectionId": typed["connectionId"] or None}
    try:
        if is_preview:
            rule, problems = parse(Rule, values)
            effect = await mappings.preview_mappings(Preview(mapping=rule), principal, service) if rule else None
            return await _new(request, principal, service, typed, problems, effect)
        body, problems = parse(NewMapping, {**values, "confirm": bool(typed["confirm"])})
        if body is None:
            return await _new(request, principal, service, typed, problems)
        made = await mappings.create_mapping(body, principal, service)
    except ApiError as error:
        field = "connectionId" if "connection" in error.message else "roleName" if "role" in error.message else ""
        return await _new(request, principal, service, typed, problems_of(error, field), code=error.status)
    text = f"From now on the group {made.scim_group_name} gives the role {made.role_name}."
    if not made.matching_groups:
        text += " No group bears this name at the moment."
    return await _applied(principal, service, text, made.scim_group_name, is_wanted=bool(typed["apply"]))


@router.get("/apply")
async def ask_apply(
    request: Request, principal: PageAdmin, group: Annotated[str, Query(max_length=1000)] = ""
) -> Response:
    """All mappings, or those of one group name."""
    return frame.page(request, "mappings_apply.html", group=group, effect=None, problems={})


@router.post("/apply")
async def apply(request: Request, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Tell what applying would do, or do it."""
    group = form.get("group")
    effect, problems = None, {}
    is_real = form.get("act") == "apply"
    body, problems = parse(Applying, {"scimGroupName": group or None})
    try:
        if body is not None and (is_real or form.get("act") == "preview"):
            effect = await mappings.apply_mappings(body, principal, service, dry_run=not is_real)
            if is_real:
                return frame.see_other(HERE, f"The mappings are applied: {_numbers(effect)}.")
    except ApiError as error:
        problems = problems_of(error)
    return frame.page(
        request,
        "mappings_apply.html",
        code=400 if problems else 200,
        group=group,
        effect=effect,
        problems=problems,
    )


@router.get("/{id}/delete")
async def ask_delete(request: Request, id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What ends with it."""
    mapping = await mappings.get_mapping(id, principal, service)
    return frame.page(request, "mapping_delete.html", mapping=mapping, effect=None, problems={})


@router.post("/{id}/delete")
async def delete(request: Request, id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Tell who would lose what, or end the mapping."""
    mapping = await mappings.get_mapping(id, principal, service)
    if form.get("act") != "delete":
        return await _preview_deletion(request, mapping, principal, service)
    await mappings.delete_mapping(id, principal, service)
    text = f"The group {mapping.scim_group_name} no longer gives the role {mapping.role_name}."
    return await _applied(principal, service, text, mapping.scim_group_name, is_wanted="apply" in form)


@router.get("/{id}/confirm")
async def ask_confirm(request: Request, id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What confirming the groups of a protected role means."""
    mapping = await mappings.get_mapping(id, principal, service)
    groups = frame.count(mapping.unconfirmed_groups, "group")
    return frame.page(
        request,
        "confirm.html",
        title=f"Confirm {groups} called {mapping.scim_group_name}?",
        text=[
            f"{groups} came to this name after it was mapped to the protected role {mapping.role_name}. "
            "A group that was renamed to it, or took another's place, does not give the role until it is confirmed.",
            f"Once confirmed, whoever is put into one of them has {mapping.role_name}. "
            "Members who are there get it when the mappings are re-applied.",
        ],
        action=f"{HERE}/{id}/confirm",
        label=f"Confirm {groups}",
        back=HERE,
        kind="danger",
    )


@router.post("/{id}/confirm")
async def confirm(id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Let the protected role reach the groups that have come to the name since."""
    made = await mappings.confirm_groups(id, principal, service)
    return frame.see_other(
        HERE, f"All groups called {made.scim_group_name} give the role {made.role_name} from now on."
    )


async def _preview_deletion(
    request: Request, mapping: MappingShape, principal: Principal, service: Service
) -> Response:
    effect, problems = None, {}
    try:
        effect = await mappings.preview_mappings(Preview(without=mapping.id), principal, service)
    except ApiError as error:
        problems = problems_of(error)
    return frame.page(request, "mapping_delete.html", mapping=mapping, effect=effect, problems=problems)


async def _applied(principal: Principal, service: Service, text: str, group: str, *, is_wanted: bool) -> Response:
    """On to the list, once the mappings of the group name are applied, if that is wanted."""
    if not is_wanted:
        return frame.see_other(HERE, f"{text} For members who are there nothing changes until you re-apply.")
    try:
        effect = await mappings.apply_mappings(Applying(scim_group_name=group), principal, service)
    except ApiError as error:
        text = f"{text} Re-apply the mappings again: {error.message}."
        return frame.see_other(HERE, text, is_problem=True)
    return frame.see_other(HERE, f"{text} Applied: {_numbers(effect)}.")


def _numbers(effect: EffectShape) -> str:
    return f"{frame.count(effect.gained, 'role')} gained, {frame.count(effect.lost, 'role')} lost"


async def _connections(principal: Principal, service: Service) -> list[connections.ProviderConnection]:
    return (await connections.list_provider_connections(principal, service)).providers


def _typed(form: Form) -> dict[str, str]:
    return {name: form.get(name) for name in ("scimGroupName", "roleName", "connectionId", "confirm", "apply")}


async def _new(
    request: Request,
    principal: Principal,
    service: Service,
    values: dict[str, str],
    problems: Problems | None = None,
    effect: EffectShape | None = None,
    code: int | None = None,
) -> Response:
    groups = await mappings.group_names(principal, service, limit=_OFFERED)
    known = (await roles.list_roles(principal, service, Paging(MAX_LIMIT, None))).roles
    protected = next((role.name for role in known if role.is_protected and role.name == values["roleName"]), None)
    return frame.page(
        request,
        "mapping_new.html",
        code=code or (400 if problems else 200),
        groups=groups,
        roles=known,
        connections=await _connections(principal, service),
        protected=protected,
        is_unknown=bool(values["scimGroupName"]) and len(groups) < _OFFERED and values["scimGroupName"] not in groups,
        values=values,
        problems=problems or {},
        effect=effect,
    )
