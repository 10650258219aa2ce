"""Who may do what: roles in namespaces, scopes of tokens, and one table that joins them.

| action  | role in the namespace | scope of the token |
|---------|-----------------------|--------------------|
| READ    | reader (none if public) | read             |
| PUBLISH | publisher             | publish            |
| OWN     | owner                 | publish            |
| MANAGE  | owner                 | admin              |
| SITE    | the server's admin    | admin              |

Default deny.  Without the right to read it, a private thing looks like a missing one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from hub.registry.values import Role, Scope

ROLE_RANK: dict[Role, int] = {"reader": 1, "publisher": 2, "owner": 3}
SCOPES: tuple[Scope, ...] = ("read", "publish", "admin")
ALL_SCOPES: frozenset[Scope] = frozenset(SCOPES)


class Action(Enum):
    """An action, with the role and the scope that it takes."""

    READ = ("reader", "read")
    PUBLISH = ("publisher", "publish")
    OWN = ("owner", "publish")
    MANAGE = ("owner", "admin")
    SITE = (None, "admin")

    def __init__(self, role: Role | None, scope: Scope) -> None:
        self.role = role
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is asking.  Roles are not in here: they are looked up in the transaction that uses them.

    user, user_id: None for anonymous readers.  namespace: the only one that the token may act in, or None.
    admin: the user is an admin of the whole server; a token limited to a namespace never is.
    """

    user: str | None
    user_id: int | None
    scopes: frozenset[Scope]
    namespace: str | None = None
    admin: bool = False
    token_id: int | None = None
    token_name: str | None = None
    expires_at: datetime | None = None
    source: str | None = None

    @property
    def is_anonymous(self) -> bool:
        return self.user_id is None

    def has_scope(self, scope: Scope) -> bool:
        """A wider scope includes the narrower ones."""
        return any(SCOPES.index(held) >= SCOPES.index(scope) for held in self.scopes)

    def reaches(self, namespace: str) -> bool:
        """Whether the token may use its owner's rights in `namespace`."""
        return self.namespace is None or self.namespace == namespace


ANONYMOUS = Actor(user=None, user_id=None, scopes=frozenset({"read"}))


def allows(actor: Actor, role: Role | None, namespace: str, action: Action) -> bool:
    """Whether `actor`, who has `role` in `namespace`, may do `action` there."""
    if actor.is_anonymous or not actor.has_scope(action.scope) or not actor.reaches(namespace):
        return False
    if actor.admin:
        return True
    return action.role is not None and role is not None and ROLE_RANK[role] >= ROLE_RANK[action.role]
