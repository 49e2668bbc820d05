"""Cursor pagination over UUIDv7 ids, newest first, or in an order that the caller chose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import BaseModel
from sqlalchemy import Select, literal, select, tuple_
from sqlalchemy.orm import Session
from starlette.requests import Request

from shared.errors import Invalid

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: UUID | None = None


@dataclass(frozen=True)
class Order:
    """How a list is sorted: by `column`, which is never null, and rows that are alike in it by their id."""

    column: Any
    ascending: bool


def order_of(sort: str, columns: Mapping[str, Any]) -> Order:
    """What `?sort=` asks for: a name of `columns`, with `-` before it for the largest first."""
    return Order(columns[sort.removeprefix("-")], not sort.startswith("-"))


class Paging:
    """`?limit=&cursor=`, and the `Link: rel="next"` header."""

    def __init__(
        self,
        request: Request,
        response: Response,
        limit: Annotated[int, Query(ge=1, le=200, description="rows per page")] = 50,
        cursor: Annotated[UUID | None, Query(description="next_cursor of the page before")] = None,
    ) -> None:
        self.limit = limit
        self.cursor = cursor
        self._request = request
        self._response = response

    def fetch(
        self, session: Session, query: Select[T], id_column: Any, order: Any = None
    ) -> tuple[Sequence[T], UUID | None]:
        """Rows of this page and the cursor of the next. `order`: the column that tells which row is newer, if not
        the id."""
        by = id_column if order is None else order
        if self.cursor is not None:
            # An unknown cursor names no place: the page after it is empty.
            place = select(by).where(id_column == self.cursor).scalar_subquery()
            query = query.where(by < (place if by is order else self.cursor))
        return self._page(session, query.order_by(by.desc()), id_column)

    def fetch_sorted(
        self, session: Session, query: Select[T], id_column: Any, order: Order
    ) -> tuple[Sequence[T], UUID | None]:
        """The same in another order. Raises Invalid where the row that the cursor names is gone."""
        keys = [id_column] if order.column is id_column else [order.column, id_column]
        if self.cursor is not None:
            row, place = tuple_(*keys), tuple_(*self._place(session, keys))
            query = query.where(row > place if order.ascending else row < place)
        directed = [key.asc() if order.ascending else key.desc() for key in keys]
        return self._page(session, query.order_by(*directed), id_column)

    def _place(self, session: Session, keys: Sequence[Any]) -> list[Any]:
        if len(keys) == 1:  # ids tell their place by themselves
            return [literal(self.cursor)]
        found = session.execute(select(*keys).where(keys[-1] == self.cursor)).one_or_none()
        if found is None:
            raise Invalid.of("cursor", "what it names is there no more; begin the list again")
        return [literal(value) for value in found]

    def _page(self, session: Session, query: Select[T], id_column: Any) -> tuple[Sequence[T], UUID | None]:
        rows = session.scalars(query.limit(self.limit + 1)).all()
        if len(rows) <= self.limit:
            return rows, None
        rows = rows[: self.limit]
        cursor: UUID = getattr(rows[-1], id_column.key)
        url = self._request.url.include_query_params(cursor=str(cursor), limit=self.limit)
        # Relative: behind an ingress this process knows neither its host nor its scheme (RFC 8288 §3.1).
        self._response.headers["Link"] = f'</api{url.path}?{url.query}>; rel="next"'
        return rows, cursor


PagingDep = Annotated[Paging, Depends(Paging)]
