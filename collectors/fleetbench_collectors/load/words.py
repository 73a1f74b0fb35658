"""Words for prompts of text, and what they cost at a server."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_WORD = "a"
"""Begins every text. At the start of a text, or after a template, a word may cost more or less than after a space;
the same one everywhere makes this part of the overhead."""

WORDS = tuple(
    """
    the of and to in is for that with as on by are was this from be at or an it not have has which can you we
    they his her their its all one two new more other some time use used up out if into when who what how where
    there then than only also but had were been will would could should about after before over under between
    first last most many such so no any each these those them him my your our me do does did make made see work
    part way day year years people man world life home city name number place group state system water school
    house book list line file type data set value test case point order form
    """.split()  # noqa: SIM905 - 128 literals in quotes are harder to read
)
"""One token each after a space in GPT-2's vocabulary and in Llama 2's, which is small (32,000 entries); larger ones
are expected to have them too, and a calibration counts them at the server before they are relied on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a prompt of so many tokens, as the server counts them, is made.

    overhead_tok: what the server counts beyond ids or words: a BOS token, a chat template, FIRST_WORD;
    words: of `cost_tok` tokens each after a space, none for prompts of token ids; filler: text of one token
    for what is left over, None where there is none or where words cost one token; verified: the server counted
    exactly the length that was asked for; off_tok: by how much it counted more (or less, negative), None where
    that is unknown; probes: requests that it took; reason: a sentence, where not verified.
    """

    overhead_tok: int
    cost_tok: int
    words: tuple[str, ...]
    filler: str | None
    verified: bool
    off_tok: int | None
    probes: int
    reason: str | None

    @property
    def shortest_tok(self) -> int:
        """The shortest prompt that has a word or an id of its own."""
        return self.overhead_tok + self.cost_tok

    def split(self, context_tok: int) -> tuple[int, int]:
        """Words (or ids) and fillers that make up a prompt, exactly or without fillers as nearly as possible.

        Raises:
            ValueError: shorter than the shortest.
        """
        if context_tok < self.shortest_tok:
            raise ValueError(self.too_short(context_tok))
        n, left = divmod(context_tok - self.overhead_tok, self.cost_tok)
        if self.filler is None:
            return n + (2 * left > self.cost_tok), 0
        return n, left

    def length_tok(self, context_tok: int) -> int:
        """What `split` comes to."""
        n, fillers = self.split(context_tok)
        return self.overhead_tok + n * self.cost_tok + fillers

    def too_short(self, context_tok: int) -> str:
        return f"the shortest prompt of this server has {self.shortest_tok} tokens, not {context_tok}"
