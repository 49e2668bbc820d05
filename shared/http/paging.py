"""Cursor pagination over UUIDv7 ids, newest first."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import BaseModel
from sqlalchemy import Select, select
from sqlalchemy.orm import Session
from starlette.requests import Request

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: UUID | None = None


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
        rows = session.scalars(query.order_by(by.desc()).limit(self.limit + 1)).all()
        if len(rows) <= self.limit:
            return rows, None
        rows = rows[: self.limit]
        cursor: UUID = getattr(rows[-1], id_column.key)
        url = self._request.url.include_query_params(cursor=str(cursor), limit=self.limit)
        # Relative: behind an ingress this process knows neither its host nor its scheme (RFC 8288 §3.1).
        self._response.headers["Link"] = f'</api{url.path}?{url.query}>; rel="next"'
        return rows, cursor


PagingDep = Annotated[Paging, Depends(Paging)]
