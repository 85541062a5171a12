"""The comparison of two methods in plain statements, made from the numbers.

Every statement is made from one :class:`~clirscale.analysis.comparison.Outcome` alone, and numbers are rounded so that
the rounded statement follows from the exact one: ends of intervals and bounds on p-values are rounded outwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, isfinite, log10

from clirscale.analysis.comparison import HeadToHead, Outcome, SizeTest
from clirscale.analysis.equivalents import Bounded, Multiplier, spans

SETTING_WORDS = {"mono": "monolingual", "cross": "cross-lingual", "multi": "multilingual"}
SLACK = 1e-9  # so that .29 * 100, which is 28.999999999999996, is not rounded down to 28


def sentence(comparison: HeadToHead, setting: str, measure: str, *, measure_name: str = "") -> str:
    """Return the :func:`statements` as one paragraph."""
    return " ".join(statements(comparison, setting, measure, measure_name=measure_name))


def statements(comparison: HeadToHead, setting: str, measure: str, *, measure_name: str = "") -> tuple[str, ...]:
    """Return what the numbers say of a method against a baseline in one setting and measure, a sentence each.

    In this order, as far as there is anything to say: whether they differ, the data equivalent, where the curves
    cross, at which size a study already picks the winner, and what limits all this.

    Args:
        comparison: of the two methods.
        setting: mono, cross or multi.
        measure: name of the measure in the comparison.
        measure_name: its name in running text, if that is another.
    """
    what = f"{SETTING_WORDS[setting]} {measure_name or measure}"
    outcome = comparison.outcomes.get((setting, measure))
    if outcome is None:
        return (f"In {what}, neither {comparison.method.phrase} nor {comparison.baseline.phrase} has a score.",)
    writer = _Writer(comparison, outcome)
    found = [f"In {what}, {writer.verdict()}", writer.equivalent(), writer.crossing(), writer.decision()]
    return (*(text for text in found if text), *writer.limits())


class _Writer:
    """Writes sentences about a (the method) and b (the baseline)."""

    def __init__(self, comparison: HeadToHead, outcome: Outcome) -> None:
        self.a, self.b, self.outcome = comparison.method.phrase, comparison.baseline.phrase, outcome
        self.tests, self.level, self.n_tests = outcome.tests, comparison.level, comparison.n_tests
        self.differ = [test for test in outcome.tests if test.adjusted <= comparison.alpha]
        self.identical = bool(self.tests) and all(test.identical for test in self.tests)

    def verdict(self) -> str:
        """Say whether the methods differ."""
        if not self.tests:
            return f"{self.a} and {self.b} have no size in common, so that nothing is tested."
        if self.identical:
            return f"{self.a} and {self.b} score the same in every parallel group at {_sizes(self.tests)}."
        return self._differ() if self.differ else self._alike()

    def _alike(self) -> str:
        largest = self.tests[-1]
        n = len(self.tests)
        where = f"at any of {n} sizes" if n > 1 else f"at {_sizes(self.tests)}, the only size that both have"
        p = _p_bound(min(test.adjusted for test in self.tests), up=False)
        text = f"{self.a} is not distinguishable from {self.b} {where} (Holm-adjusted p {p})"
        text += f"; at {_count(largest.groups)} groups {self._difference(largest)}"
        if not largest.difference.includes_zero:
            text += f", an interval without 0, but {self._uncorrected}"
        return f"{text}."

    def _differ(self) -> str:
        better = [test for test in self.differ if self._winner(test) == self.a]
        worse = [test for test in self.differ if self._winner(test) == self.b]
        rest = [test for test in self.tests if test not in self.differ]
        clauses = [f"better than {self.b} at {_sizes(better)}"] if better else []
        clauses += [f"worse {'' if better else f'than {self.b} '}at {_sizes(worse)}"] if worse else []
        clauses += [f"not distinguishable at {_sizes(rest)}"] if rest else []
        p = _p_bound(max(test.adjusted for test in self.differ), up=True)
        text = f"{self.a} is {_listed(clauses)} (Holm-adjusted p {p}{' where they differ' if rest else ''})"
        largest = self.differ[-1]
        effect = f", {_signed(largest.dz)} standard deviations over parallel groups" if isfinite(largest.dz) else ""
        text += f"; at {_count(largest.groups)} groups {self._difference(largest)}{effect}"
        unsure = [test for test in self.differ if test.difference.includes_zero]
        if unsure:
            covers = " or ".join(dict.fromkeys(test.difference.covers for test in unsure))
            text += f"; but the {_percent(self.level)} interval over {covers} includes 0 at {_sizes(unsure)}"
        return f"{text}."

    def _winner(self, test: SizeTest) -> str:
        return self.b if (test.difference.value > 0) == self.outcome.lower_is_better else self.a

    def _difference(self, test: SizeTest) -> str:
        d = test.difference
        return f"{self.a} − {self.b} is {_signed(d.value)} ({_signed(d.low)} to {_signed(d.high)})"

    def equivalent(self) -> str:
        """Say how much data the baseline needs, at the largest size at which that is not a bound."""
        found, sizes = self.outcome.equivalents, self.outcome.baseline_sizes
        if self.identical or sizes is None:
            return ""
        if not found:
            if not (self.tests or self.outcome.alone[0]):  # the method has no score
                return ""
            why = "has one size only" if sizes[0] == sizes[1] else "does not get better with more data"
            return f"There is no data equivalent: {self.b} {why}."
        last = found[-1]
        chosen = next((m for m in reversed(found) if not m.value.relation), last)
        text = f"With {_count(chosen.groups)} groups {self.a} does what {self.b} needs {self._needed(chosen, ' for')}"
        if last is not chosen:
            text += f"; with {_count(last.groups)}, {self._needed(last)}"
        return f"{text}."

    def _needed(self, m: Multiplier, preposition: str = "") -> str:
        """Write how many groups b needs, and how the interval as it is written lies to the size of a."""
        value, low, high = (end.times(m.groups) for end in (m.value, m.low, m.high))
        low = low if low.relation else Bounded(_three_digits(low.value, floor))
        high = high if high.relation else Bounded(_three_digits(high.value, ceil))
        ends = dict.fromkeys(f"{end.relation} {_count(end.value)}".strip() for end in (low, high))
        bound = {"": "", "<": "fewer than ", ">": "more than "}[value.relation]
        text = f"{bound}{_count(value.value) if bound else _three(value.value)} [{'–'.join(ends)}]{preposition}"
        if spans(low, high, round(m.groups)):
            return f"{text}, an interval that includes {_count(m.groups)}"
        # The tests are stricter than the interval, which must not seem to contradict them.
        return text if len(self.differ) == len(self.tests) else f"{text}, an interval {self._uncorrected}"

    @property
    def _uncorrected(self) -> str:
        return f"not corrected for the family of {self.n_tests} test{'' if self.n_tests == 1 else 's'}"

    def crossing(self) -> str:
        """Say where the curves cross, if there is a size at which the methods differ."""
        found = self.outcome.crossing
        if not self.differ or found is None or not found.groups:
            return ""
        where = f"The curves cross at {_listed([_three(size) for size in found.groups])} groups"
        if found.low is not None and found.high is not None:
            ends = (_count(_three_digits(found.low, floor)), _count(_three_digits(found.high, ceil)))
            where += f", {'the last ' if len(found.groups) > 1 else ''}with interval [{'–'.join(ends)}]"
        return f"{where}; {_percent(found.share)} of resamples cross."

    def decision(self) -> str:
        """Say from which size on a study picks the winner of the largest, if that has one."""
        decisions = self.outcome.decisions
        if len(decisions) < 2 or self.tests[-1] not in self.differ:
            return ""
        start = len(decisions)
        while start and decisions[start - 1].accuracy >= self.level:
            start -= 1
        winner = f"{self._winner(self.tests[-1])}, the winner at {_count(decisions[-1].groups)} groups, is picked"
        if start == len(decisions):
            return f"{winner[0].upper()}{winner[1:]} there in only {_percent(decisions[-1].accuracy)} of resamples."
        if start == len(decisions) - 1:
            before = decisions[-2]
            return f"At {_count(before.groups)} groups {winner} in only {_percent(before.accuracy)} of resamples."
        lowest = min(decision.accuracy for decision in decisions[start:])
        share = f"{_percent(lowest)} of resamples{' or more' if lowest < 1 else ''}"
        return f"From {_count(decisions[start].groups)} groups on, {winner} in {share}."

    def limits(self) -> list[str]:
        """Say what limits the statements: one seed, two sizes, sizes that only one method has."""
        one_seed = [test for test in self.tests if test.difference.n_seeds == 1]
        found = []
        if one_seed:
            where = "" if len(one_seed) == len(self.tests) else f" at {_sizes(one_seed)}"
            found.append(f"One seed{where}: nothing is known of the variation between seeds.")
        if len(self.tests) == 2:
            found.append("Two sizes only: the curves between them are taken as straight in the logarithm of size.")
        for name, alone in zip((self.a, self.b), self.outcome.alone, strict=True):
            if alone:
                found.append(f"Only {name} has a score at {_listed([_count(size) for size in alone])} groups.")
        return found


def _three_digits(value: float, to_integer: Callable[[float], int] = round) -> float:
    """Round a positive number to three significant digits, or to an integer where that keeps more."""
    unit = 10 ** max(0, floor(log10(value)) - 2)
    slack = SLACK if to_integer is floor else -SLACK if to_integer is ceil else 0.0
    return float(to_integer(value / unit + slack) * unit)


def _three(value: float) -> str:
    return _count(_three_digits(value))


def _p_bound(value: float, *, up: bool) -> str:
    """Write that p-values are at most (up) or at least a value, which is rounded to keep that true.

    >>> _p_bound(0.1234, up=False), _p_bound(0.00471, up=True), _p_bound(1.0, up=False)
    ('≥ .12', '≤ .0048', '= 1')
    """
    digits = max(2, 1 - floor(log10(value)))
    rounded = (ceil(value * 10**digits - SLACK) if up else floor(value * 10**digits + SLACK)) / 10**digits
    if rounded >= 1:
        return "≤ 1" if up else "= 1"
    return f"{'≤' if up else '≥'} {f'{rounded:.{digits}f}'.lstrip('0')}"


def _percent(share: float) -> str:
    """Write a share, rounded down: 100% is all.

    >>> _percent(1.0), _percent(0.9996), _percent(0.29), _percent(0.004), _percent(0.0)
    ('100%', '99%', '29%', 'under 1%', '0%')
    """
    whole = floor(100 * share + SLACK)
    return "under 1%" if share and not whole else f"{whole}%"


def _signed(value: float) -> str:
    """Write a difference with its sign to three significant digits, so that it does not become 0.

    >>> _signed(0.03124), _signed(-12.345), _signed(-0.00001), _signed(0.0)
    ('+0.0312', '−12.3', '−0.0000100', '0')
    """
    if abs(value) < SLACK:
        return "0"
    return f"{value:+.{max(0, 2 - floor(log10(abs(value))))}f}".replace("-", "−")


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _sizes(tests: Sequence[SizeTest]) -> str:
    return f"{_listed([_count(test.groups) for test in tests])} groups"


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)
