"""A thousand agents on one hub, two hundred of them cut off at a time, for as long as you like.

    python benchmarks/soak.py [--agents 1000] [--minutes 30] [--rate 200] [--cut 200] [--every 20]

The hub, on a disk store, is one process, the agents are others; each agent has a websocket of its own. Everything that
was accepted is accounted for by number: handled once, or again and marked as a redelivery, and once in the hub's logs.
The hub tells what it holds before the traffic, after it, and when everybody has left. The exit code is 1 for any fault.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH keeps it out

from soak_lines import Child

SETTLE = 300.0
WARM_UP = 8.0
SLACK = 50  # objects of one type that may come and go: caches, batches, what a sweep has in hand
HISTORY = {"agorio.hub.stores.disk_index.Stream"}  # where each log lies, of sessions that have ended as well
MIB = 1 << 20


@attrs.frozen
class Plan:
    """What is to be done."""

    agents: int
    """How many."""
    processes: int
    """Over how many processes they are spread."""
    seconds: float
    """How long they talk."""
    rate: float
    """Texts per second, of all together."""
    cut: int
    """Links that are cut at once."""
    every: float
    """Seconds between two cuts."""
    seed: int
    """Of who talks to whom and who is cut."""

    def shares(self) -> list[int]:
        """Agents per process."""
        whole, rest = divmod(self.agents, self.processes)
        return [whole + (number < rest) for number in range(self.processes)]


@attrs.define
class Soak:
    """One run: the processes and what they have told."""

    plan: Plan
    hub: Child
    crowds: list[Child]
    seen: dict[str, Any] = attrs.Factory(dict)
    faults: list[str] = attrs.Factory(list)

    def run(self) -> None:
        """All of it."""
        self.seen["connect_seconds"] = self.each("connect")
        self.talk(min(WARM_UP, self.plan.seconds / 2), cut=0)
        before = self.settle()
        begin = time.monotonic()
        self.talk(self.plan.seconds, self.plan.cut)
        self.seen["seconds"] = time.monotonic() - begin
        after = self.settle()
        self.balance(self.books())
        self.compare(before, after)
        self.each("leave")
        self.empty(self.settle())

    def each(self, do: str, **arguments: object) -> float:
        """Have every crowd do something at the same time; the seconds that it took."""
        begin = time.monotonic()
        for crowd in self.crowds:
            crowd.put(do, **arguments)
        for crowd in self.crowds:
            crowd.take()
        return time.monotonic() - begin

    def talk(self, seconds: float, cut: int) -> None:
        """Have everybody talk."""
        share, plan = cut // len(self.crowds), self.plan
        self.each("talk", seconds=seconds, pause=plan.agents / plan.rate, cut=share, every=plan.every)

    def settle(self) -> dict[str, Any]:
        """Wait until the hub has nothing left to do, and ask what it holds."""
        left = self.hub.ask("settled", within=SETTLE)
        if any(left.values()):
            self.faults.append(f"after {SETTLE:g} s the hub still holds {left}")
        return self.hub.ask("report")

    # What was seen.

    def books(self) -> dict[str, Any]:
        """The books of all crowds as one."""
        parts = [crowd.ask("books") for crowd in self.crowds]
        books: dict[str, Any] = {"accepted": {}, "heard": {}, "faults": []}
        for key in ("redelivered", "answers", "lost", "late", "unclear", "sends"):
            books[key] = sum(part[key] for part in parts)
        for key in ("accept_times", "handle_times", "reconnect_times"):
            books[key] = sorted(time for part in parts for time in part[key])
        for part in parts:
            books["accepted"] |= part["accepted"]
            books["heard"] |= part["heard"]
            books["faults"] += part["faults"]
        return books

    def balance(self, books: dict[str, Any]) -> None:
        """Every accepted text was handled, and is in its session's log once and in its place."""
        accepted, heard, logs = books["accepted"], books["heard"], self.hub.ask("logs")
        self.faults += books["faults"]
        for session, count in accepted.items():
            if heard.get(session) != count:
                self.faults.append(f"{session}: {count} texts accepted, {heard.get(session, 0)} handled")
            numbers = [*map(str, range(count - 1)), f"{count - 1}?", "re"]
            if logs.get(session) != numbers:
                self.faults.append(f"{session}: {numbers} were accepted, {logs.get(session)} are in its log")
        for name in ("accept_times", "handle_times", "reconnect_times"):
            self.seen |= percentiles(name.removesuffix("_times"), books[name])
        self.seen |= {key: books[key] for key in ("redelivered", "answers", "lost", "late", "unclear", "sends")}
        self.seen |= {"sessions": len(accepted), "texts": sum(accepted.values()) + books["answers"]}

    def slack(self, name: str) -> int:
        """How many more objects of a type there may be; each connection still has the frame that it read last."""
        read = ("agorio.transports.frames.", "agorio.actors.sessions.operations")
        return SLACK + (self.plan.agents if name.startswith(read) else 0)

    def compare(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """What the hub holds after the traffic is what it held before it."""
        grown = {
            name: (before["objects"].get(name, 0), count)
            for name, count in after["objects"].items()
            if count > before["objects"].get(name, 0) + self.slack(name) and name not in HISTORY
        }
        self.faults += [
            f"{name}: {old} objects before the traffic, {new} after it" for name, (old, new) in grown.items()
        ]
        for key, what in (("tasks", "tasks"), ("files", "open files"), ("current_connections", "connections")):
            if after[key] > before[key] + SLACK // 2:
                self.faults.append(f"{before[key]} {what} before the traffic, {after[key]} after it")
        self.faults += [f"the hub is not well: {reason}" for reason in after["health"]]
        self.seen |= {"rss_before": before["rss"], "rss_after": after["rss"], "tasks": after["tasks"]}
        self.seen["envelopes"] = after["total_accepted"] - before["total_accepted"]
        self.seen["dead_letters"] = after["total_dead_letters"]

    def empty(self, last: dict[str, Any]) -> None:
        """Nobody is left."""
        for key in ("current_agents", "current_connections", "current_sessions", "current_pending"):
            if last[key]:
                self.faults.append(f"when everybody has left, {key} is {last[key]}")
        self.seen |= {"rss_empty": last["rss"], "tasks_empty": last["tasks"]}


def percentiles(name: str, times: list[float]) -> dict[str, float]:
    """The median, the 99th percentile and the worst, in milliseconds."""
    if not times:
        return {}
    at = {"p50": len(times) // 2, "p99": len(times) * 99 // 100, "max": -1}
    return {f"{name}_{key}_ms": round(times[place] * 1000, 1) for key, place in at.items()}


def soak(plan: Plan) -> tuple[dict[str, Any], list[str]]:
    """Figures and faults of one run."""
    with tempfile.TemporaryDirectory(prefix="agorio-soak-") as folder:
        store = Path(folder) / "hub.db"
        hub = Child("soak_hub.py", store)
        url, first, crowds = hub.take()["url"], 0, []
        for count in plan.shares():
            crowds.append(Child("soak_agents.py", url, first, count, plan.agents, plan.seed))
            first += count
        run = Soak(plan, hub, crowds)
        try:
            run.run()
            run.seen["store_bytes"] = store.stat().st_size
        finally:
            for child in (*crowds, hub):
                child.end()
        return run.seen, run.faults


def show(seen: dict[str, Any], faults: list[str]) -> None:
    """For people."""
    for name, value in seen.items():
        if name.startswith("rss") or name.endswith("bytes"):
            print(f"{name:<24}{value / MIB:>14,.1f} MiB")
        else:
            print(f"{name:<24}{value:>14,.{1 if isinstance(value, float) else 0}f}")
    print(f"{seen['envelopes'] / seen['seconds']:,.1f} envelopes per second")
    print(*[f"FAULT: {fault}" for fault in faults[:20]], sep="\n")
    print(f"{len(faults)} faults" if faults else "nothing lost, nothing doubled, nothing left behind")


def main() -> int:
    parser = argparse.ArgumentParser(description="Many remote agents on one hub, cut off and coming back.")
    parser.add_argument("--agents", type=int, default=1000, metavar="N", help="how many (1000)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="spread over so many processes (2)")
    parser.add_argument("--minutes", type=float, default=30.0, metavar="M", help="how long they talk (30)")
    parser.add_argument("--rate", type=float, default=200.0, metavar="R", help="texts per second of all together (200)")
    parser.add_argument("--cut", type=int, default=200, metavar="N", help="links cut at once (200)")
    parser.add_argument("--every", type=float, default=20.0, metavar="S", help="seconds between two cuts (20)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of who talks to whom and who is cut (1)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    seen, faults = soak(
        Plan(args.agents, args.processes, args.minutes * 60, args.rate, args.cut, args.every, args.seed)
    )
    if args.json:
        print(json.dumps({"seen": seen, "faults": faults}))
    else:
        show(seen, faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
