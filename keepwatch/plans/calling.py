"""Which emergency plan an alert calls for, and whom. Pure look-up; what is done with the answer is others' business."""

from collections.abc import Iterable
from dataclasses import dataclass

from config.plan_files import Plan
from config.said import Said, listed


@dataclass(frozen=True, slots=True)
class CalledPlan:
    """What a message says of a plan."""

    name: str
    title: str
    owner: str
    deputies: tuple[str, ...] = ()

    def text(self) -> Said:
        """Write it in one line: ``fire (A new machine), owner Anna, deputy Li: keepwatch plan show fire``."""
        people = [Said("owner %(who)s", who=self.owner) if self.owner else Said("without owner")]
        if self.deputies:
            people.append(Said("deputy %(who)s", who=", ".join(self.deputies)))
        plan = f"{self.name} ({self.title})"
        command = f"keepwatch plan show {self.name}"
        return Said("%(plan)s, %(people)s: %(command)s", plan=plan, people=listed(people), command=command)


def plan_for_alert(plans: Iterable[Plan], check: str, entity: str = "") -> CalledPlan | None:
    """Return the plan that names this alert; None when none does.

    One that names the very entity (``root disk /srv``) goes before one that names the check, otherwise the first does.
    """
    title = f"{check} {entity}".strip()
    plans = list(plans)
    for name in dict.fromkeys((title, check)):
        for plan in plans:
            if name in plan.head.alerts:
                return CalledPlan(plan.name, plan.head.title, plan.head.owner, tuple(plan.head.deputies))
    return None
