"""How much may be tried again: a share of the calls, so that retries never become the load that keeps a server down."""

from __future__ import annotations


class RetryBudget:
    """Tokens that calls earn and retries spend.

    However calls and retries follow each other, retries never exceed `reserve` + `share` of the calls. As in gRPC's
    retry throttling (proposal A6), but by calls and not by successes, so that the bound holds for any mixture.
    """

    def __init__(self, share: float, reserve: int) -> None:
        """share: tokens a call earns, ≥ 0.  reserve: tokens at the start, and the most there are, ≥ 0."""
        self.spent = 0
        self.refused = 0
        self._share = share
        self._reserve = float(reserve)
        self._level = float(reserve)
        self._calls = 0

    def spend(self, calls: int) -> bool:
        """Take one token; False where there is none.  calls: how many have been made so far, never less than before."""
        self._level = min(self._reserve, self._level + (calls - self._calls) * self._share)
        self._calls = calls
        if self._level < 1.0:
            self.refused += 1
            return False
        self._level -= 1.0
        self.spent += 1
        return True
