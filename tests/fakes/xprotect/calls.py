"""How often which call was made: what a test asks to know that nothing was asked needlessly."""

from collections import Counter


class Calls(Counter[str]):
    """By kind, such as `token`, `rest:GET:cameras`, `task:GetSequences`, `soap:Login`, `imageserver:goto`."""

    def count(self, kind: str) -> None:
        self[kind] += 1
