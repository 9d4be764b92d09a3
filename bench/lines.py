"""One line of a report: a workload, its times, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Goal:
    """What is asked of a line; `value` is asked for when the line is shown."""

    text: str
    value: Callable[[], float]
    limit: float
    is_least: bool

    def __str__(self) -> str:
        value = self.value()
        is_met = value >= self.limit if self.is_least else value <= self.limit
        verdict = "[green]met[/]" if is_met else "[bold red]missed[/]"
        asked = f"at {'least' if self.is_least else 'most'} {self.limit:g}"
        return f"{self.text} {value:.2f} ({asked}) {verdict}"


@dataclass
class Line:
    """One workload: seconds by contestant, and what is asked of them."""

    name: str
    seconds: dict[str, float]
    operations: float = 0.0
    goals: list[Goal] = field(default_factory=list)

    def at_most(self, text: str, limit: float, value: Callable[[], float]) -> None:
        self.goals.append(Goal(text, value, limit, False))

    def at_least(self, text: str, limit: float, value: Callable[[], float]) -> None:
        self.goals.append(Goal(text, value, limit, True))

    def times(self, peer: str, own: str = "swiftmax") -> Callable[[], float]:
        return lambda: self.seconds[peer] / self.seconds[own]

    def share(self, peer: str, own: str = "swiftmax") -> Callable[[], float]:
        return lambda: self.seconds[own] / self.seconds[peer]
