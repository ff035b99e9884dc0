"""Users: `/admin/users`. The accounts of the organization, and why each holds the roles that it holds."""

from collections.abc import Awaitable
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from admin_api import access_report, accounts, connections, roles
from admin_api.accounts import AccountSettings, AccountView, GrantedRole, NewAccount, NewLink
from admin_api.console import frame
from admin_api.console.forms import Problems, parse, problems_of
from admin_api.console.session import PageAdmin, Posted
from admin_api.errors import ApiError, NotFound
from admin_api.paging import MAX_LIMIT, Paging, PagingOf
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf

router = APIRouter(prefix="/admin/users", include_in_schema=False)

HERE = router.prefix


@router.get("")
async def show_all(
    request: Request,
    principal: PageAdmin,
    service: ServiceOf,
    paging: PagingOf,
    search: Annotated[str, Query(max_length=200)] = "",
    status: Literal["active", "suspended", ""] = "",
) -> Response:
    """The accounts, each role with its source."""
    wanted = {name: value for name, value in (("search", search.strip()), ("status", status)) if value}
    text = wanted.get("search", "").replace("\0", "")
    found = await accounts.list_accounts(principal, service, paging, text or None, status or None)
    first = f"{HERE}?{urlencode(wanted)}" if wanted else HERE
    older = f"{HERE}?{urlencode({**wanted, 'cursor': found.next_cursor})}" if found.next_cursor else None
    return frame.page(
        request,
        "users.html",
        found=found,
        search=search,
        status=status,
        older=older,
        first=None if paging.cursor is None else first,
    )


@router.get("/new")
async def ask_new(request: Request, principal: PageAdmin) -> Response:
    """Who it is."""
    return _new(request, {"displayName": "", "email": ""}, {})


@router.post("/new")
async def make(request: Request, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """An account that no connection manages."""
    typed = {name: form.get(name) for name in ("displayName", "email")}
    body, problems = parse(NewAccount, {"displayName": typed["displayName"], "email": typed["email"] or None})
    try:
        if body is None:
            return _new(request, typed, problems)
        made = await accounts.create_account(body, principal, service)
    except ApiError as error:
        return _new(request, typed, problems_of(error, "email"), error.status)
    return frame.see_other(f"{HERE}/{made.id}", f"{made.display_name} has an account, without roles yet.")


@router.get("/access-report")
async def show_report(request: Request, principal: PageAdmin, service: ServiceOf, paging: PagingOf) -> Response:
    """Who holds which role through what."""
    report = await access_report.access_report(principal, service, paging)
    return frame.page(request, "access_report.html", report=report, is_first=paging.cursor is None)


@router.get("/access-report.csv")
async def download_report(principal: PageAdmin, service: ServiceOf) -> Response:
    """The same, all of it, for a spreadsheet."""
    return await access_report.export_access_report(principal, service, "csv")


@router.get("/{account_id}")
async def show(request: Request, account_id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """One account."""
    return await _one(request, await accounts.get_account(account_id, principal, service), principal, service)


@router.post("/{account_id}")
async def change(
    request: Request, account_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf
) -> Response:
    """Change the name or the email of an account that no connection manages."""
    account = await accounts.get_account(account_id, principal, service)
    typed = {name: form.get(name) for name in ("displayName", "email")}
    body, problems = parse(AccountSettings, {name: value or None for name, value in typed.items()})
    try:
        if body is None:
            return await _one(request, account, principal, service, problems, typed)
        await accounts.change_account(account_id, body, principal, service)
    except ApiError as error:
        return await _one(request, account, principal, service, problems_of(error, "email"), typed, error.status)
    return frame.see_other(f"{HERE}/{account_id}", "The account is changed.")


@router.get("/{account_id}/suspend")
async def ask_suspend(request: Request, account_id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What suspending does."""
    account = await accounts.get_account(account_id, principal, service)
    return frame.page(
        request,
        "confirm.html",
        title=f"Suspend {account.display_name}?",
        text=[
            f"{account.email or account.display_name} is signed out everywhere at once and cannot sign in.",
            f"{frame.count(len({held.role_id for held in account.roles}), 'role')} stay with the account, without "
            "effect until it is reactivated.",
        ],
        action=f"{HERE}/{account_id}/suspend",
        label=f"Suspend {account.display_name}",
        back=f"{HERE}/{account_id}",
    )


@router.post("/{account_id}/suspend")
async def suspend(account_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Suspend the account."""
    account = await accounts.get_account(account_id, principal, service)
    done = accounts.suspend_account(account_id, principal, service)
    return await _done(account_id, done, f"{account.display_name} is suspended.")


@router.post("/{account_id}/reactivate")
async def reactivate(account_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Make the account active again."""
    account = await accounts.get_account(account_id, principal, service)
    done = accounts.reactivate_account(account_id, principal, service)
    return await _done(account_id, done, f"{account.display_name} is active again.")


@router.post("/{account_id}/break-glass")
async def set_break_glass(account_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Whether connections leave the account alone."""
    account = await accounts.get_account(account_id, principal, service)
    is_wanted = form.get("breakGlass") == "yes"
    done = accounts.change_account(account_id, AccountSettings(break_glass=is_wanted), principal, service)
    text = "is a break-glass account: no connection suspends it." if is_wanted else "is an account like others."
    return await _done(account_id, done, f"{account.display_name} {text}")


@router.post("/{account_id}/grants")
async def grant(request: Request, account_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Give a role by hand."""
    account = await accounts.get_account(account_id, principal, service)
    typed = {"roleName": form.get("roleName")}
    body, problems = parse(GrantedRole, typed)
    try:
        if body is None:
            return await _one(request, account, principal, service, problems, typed)
        await accounts.grant_role(account_id, body, principal, service)
    except ApiError as error:
        return await _one(request, account, principal, service, problems_of(error, "roleName"), typed, error.status)
    return frame.see_other(f"{HERE}/{account_id}", f"{account.display_name} holds the role {body.role_name}.")


@router.get("/{account_id}/grants/{role_id}/revoke")
async def ask_revoke(
    request: Request, account_id: UUID, role_id: UUID, principal: PageAdmin, service: ServiceOf
) -> Response:
    """What taking the role back means."""
    account = await accounts.get_account(account_id, principal, service)
    held = [each for each in account.roles if each.role_id == role_id]
    if not any(each.source.type == "manual" for each in held):
        raise NotFound("This account does not hold that role by hand.")
    groups = [each.source.group_name or "" for each in held if each.source.type == "group"]
    stays = f"It stays, through {', '.join(groups)}." if groups else "The account does not hold it then."
    return frame.page(
        request,
        "confirm.html",
        title=f"Take {held[0].role} from {account.display_name}?",
        text=[f"The role was given by hand. {stays}"],
        action=f"{HERE}/{account_id}/grants/{role_id}/revoke",
        label=f"Take {held[0].role} back",
        back=f"{HERE}/{account_id}",
    )


@router.post("/{account_id}/grants/{role_id}/revoke")
async def revoke(account_id: UUID, role_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Take a role back that was given by hand."""
    await accounts.get_account(account_id, principal, service)
    done = accounts.revoke_role(account_id, role_id, principal, service)
    return await _done(account_id, done, "The role is taken back.")


@router.post("/{account_id}/links")
async def link(request: Request, account_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Let a connection change the account."""
    account = await accounts.get_account(account_id, principal, service)
    typed = {"connectionId": form.get("connectionId")}
    body, problems = parse(NewLink, typed)
    try:
        if body is None:
            return await _one(request, account, principal, service, problems, typed)
        await accounts.link_account(account_id, body, principal, service)
    except ApiError as error:
        return await _one(request, account, principal, service, problems_of(error, "connectionId"), typed, error.status)
    return frame.see_other(f"{HERE}/{account_id}", "The connection gets the account with its next try.")


@router.get("/{account_id}/links/{connection_id}/unlink")
async def ask_unlink(
    request: Request, account_id: UUID, connection_id: UUID, principal: PageAdmin, service: ServiceOf
) -> Response:
    """What ending the link means."""
    account = await accounts.get_account(account_id, principal, service)
    name = next((each.provider_id for each in account.connections if each.connection_id == connection_id), None)
    if name is None:
        raise NotFound("This account is not linked to that connection.")
    return frame.page(
        request,
        "confirm.html",
        title=f"Unlink {account.display_name} from {name}?",
        text=[
            f"{name} may not change the account any more; the account and its roles by hand stay.",
            "It is refused while the connection has a user there.",
        ],
        action=f"{HERE}/{account_id}/links/{connection_id}/unlink",
        label=f"Unlink from {name}",
        back=f"{HERE}/{account_id}",
    )


@router.post("/{account_id}/links/{connection_id}/unlink")
async def unlink(
    account_id: UUID, connection_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf
) -> Response:
    """Take the connection's right to the account away."""
    await accounts.get_account(account_id, principal, service)
    done = accounts.unlink_account(account_id, connection_id, principal, service)
    return await _done(account_id, done, "The connection may not change the account any more.")


async def _done(account_id: UUID, act: Awaitable[object], text: str) -> Response:
    """Back to the account, with what was done or why it was refused."""
    try:
        await act
    except ApiError as error:
        return frame.see_other(f"{HERE}/{account_id}", frame.sentence(error.message), is_problem=True)
    return frame.see_other(f"{HERE}/{account_id}", text)


def _new(request: Request, values: dict[str, str], problems: Problems, code: int | None = None) -> Response:
    code = code or (400 if problems else 200)
    return frame.page(request, "user_new.html", code=code, values=values, problems=problems)


async def _one(
    request: Request,
    account: AccountView,
    principal: Principal,
    service: Service,
    problems: Problems | None = None,
    typed: dict[str, str] | None = None,
    code: int | None = None,
) -> Response:
    values = {"displayName": account.display_name, "email": account.email or "", "roleName": "", "connectionId": ""}
    linked = {each.connection_id for each in account.connections}
    known = (await connections.list_provider_connections(principal, service)).providers
    return frame.page(
        request,
        "user.html",
        code=code or (400 if problems else 200),
        account=account,
        is_me=principal.person is not None and principal.person.account.id == account.id,
        roles=(await roles.list_roles(principal, service, Paging(MAX_LIMIT, None))).roles,
        connections=[each for each in known if each.id not in linked],
        values={**values, **(typed or {})},
        problems=problems or {},
    )
