from collections.abc import Callable
from typing import Any, final

@final
class Program:
    def __new__(
        cls,
        nodes: tuple[tuple[Any, ...], ...],
        header: bytes,
        empty_items_max: int,
        misfits: tuple[type[Exception], ...],
        foreign: Callable[[Any], Any],
        undecodable: Callable[[Any, Exception], Exception],
        unwritable: Callable[[Any, Exception], Exception],
        /,
    ) -> Program: ...
    def decode(self, data: bytes | None, /) -> Any: ...
    def encode(self, value: Any, /) -> bytes: ...
    def fit(self, value: Any, /) -> Any: ...
