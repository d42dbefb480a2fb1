"""Reads the text of a compiled step: which collectives and matrix products one device runs, and how often.

XLA's own cost_analysis counts the body of a loop once.  Here everything counts as often as the loops around it
turn: the walk starts at ENTRY and multiplies the trip counts that the compiler wrote down.
"""

import re
from collections import Counter
from dataclasses import dataclass
from math import prod

import numpy as np

COLLECTIVES = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
    "collective-broadcast",
)  # fmt: skip
HEAD = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
# The shape may be a tuple with comments ("/*index=5*/") and layouts; the first " word(" behind it is the operation.
OP = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)")
ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")
CALLED = re.compile(
    r"\b(?:body|condition|calls|to_apply|true_computation|false_computation|branch_computations)="
    r"(\{[^}]*\}|%?[\w.-]+)"
)
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
OP_NAME = r'op_name="([^"]*)"'


@dataclass(frozen=True)
class Op:
    name: str
    shape: str  # as printed: "f32[2,3]{1,0}", or a tuple of such
    kind: str  # "dot", "while", "all-gather", ...
    rest: str  # operands and attributes, as printed


@dataclass(frozen=True)
class Collective:
    kind: str  # one of COLLECTIVES
    group: int  # devices that take part
    members: tuple[int, ...]  # device numbers of one group
    bytes: int  # of the result on one device, once
    executed: int  # times a step
    dtype: str  # of the (first) result
    name: str  # op_name of the metadata: where in the program it comes from


@dataclass(frozen=True)
class Counts:
    collectives: list[Collective]  # one for each in the program
    flops: int  # of matrix products, one device, one step
    loops_unknown: int  # loops without a trip count, counted as one turn: above 0, nothing here can be trusted


def count(text: str) -> Counts:
    """Compiled.as_text() -> what a step runs.  Both branches of a conditional count."""
    computations, entry = parse(text)
    times, unknown = executions(computations, entry)
    partitions = re.search(r"num_partitions=(\d+)", text)
    devices = int(partitions[1]) if partitions else 1
    collectives, flops = [], 0
    for name, turns in times.items():
        shapes = {op.name: op.shape for op in computations[name]}
        for op in computations[name]:
            if op.kind == "dot":
                flops += turns * dot_flops(op, shapes)
            elif op.kind.removesuffix("-done") in COLLECTIVES:  # of a pair, -done has the plain result
                collectives.append(collective(op, turns, devices, computations[name]))
    # shard_map leaves sums over mesh axes of one device: nothing is sent.
    return Counts([c for c in collectives if c.group > 1], flops, unknown)


def parse(text: str) -> tuple[dict[str, list[Op]], str]:
    """-> operations of each computation, name of the entry."""
    computations, entry, ops = {}, "", []
    for line in text.splitlines():
        if head := HEAD.match(line):
            ops = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif op := OP.match(line):
            ops.append(Op(*op.groups()))
    return computations, entry


def executions(computations: dict[str, list[Op]], entry: str) -> tuple[Counter, int]:
    """-> how often each computation runs in a step, number of loops whose trip count is not written down."""
    times, unknown = Counter(), 0

    def visit(name: str, turns: int) -> None:
        nonlocal unknown
        times[name] += turns
        for op in computations[name]:
            trips = TRIPS.search(op.rest)
            unknown += op.kind == "while" and trips is None
            for callee in callees(op):
                visit(callee, turns * (int(trips[1]) if op.kind == "while" and trips else 1))

    visit(entry, 1)
    return times, unknown


def callees(op: Op) -> list[str]:
    if op.kind.endswith(("-done", "-update")):  # its -start called them already
        return []
    return [name for group in CALLED.findall(op.rest) for name in re.findall(r"[\w.-]+", group)]


def dot_flops(op: Op, shapes: dict[str, str]) -> int:
    """2 * result * contracted dims; batch dims are part of the result."""
    left = dims(shapes[operands(op)[0]])
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", op.rest)[1]
    return 2 * prod(dims(op.shape)) * prod(left[int(i)] for i in contracted.split(",") if i)


def operands(op: Op) -> list[str]:
    return re.findall(r"%([\w.-]+)", op.rest.partition(")")[0])


def dims(shape: str) -> list[int]:
    """Of the first array of a shape."""
    return [int(n) for n in ARRAY.search(shape)[2].split(",") if n]


def size(shape: str) -> int:
    """Bytes of an array or of a tuple of them; less than 8 bits count as a byte."""
    return sum(
        prod(int(n) for n in where.split(",") if n) * (1 if kind == "pred" else bits(kind) // 8)
        for kind, where in ARRAY.findall(shape)
    )


def bits(kind: str) -> int:
    """ "bf16" -> 16, "f8e" -> 8."""
    return max(8, int(re.search(r"\d+", kind)[0]))


def collective(op: Op, turns: int, devices: int, inside: list[Op]) -> Collective:
    """inside: the operations of the computation that op stands in; of a pair, -start has the groups."""
    start = next((o for o in inside if o.name in operands(op)[:1]), op) if op.kind.endswith("-done") else op
    group = first_group(start.rest, devices)
    return Collective(
        kind=op.kind.removesuffix("-done"),
        group=len(group),
        members=tuple(group),
        bytes=size(op.shape),
        executed=turns,
        dtype=ARRAY.search(op.shape)[1],
        name=captured(OP_NAME, start.rest)[0],
    )


def captured(pattern: str, text: str) -> tuple[str, ...]:
    """The groups of the first match; empty strings where nothing matches."""
    match = re.search(pattern, text)
    return match.groups() if match else ("",) * re.compile(pattern).groups


def first_group(rest: str, devices: int) -> list[int]:
    """Device numbers of one group: mesh['a'=2,'b'=4] {'b'}, [groups,size]<=[dims]T(order), {{0,1},{2,3}}; else all."""
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", rest):
        return max(numbers(pairs[1]), key=lambda pair: abs(pair[0] - pair[-1]))
    if mesh := re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}", rest
    ):
        sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        ids = iota(mesh[2] or str(prod(sizes.values())), mesh[3]).reshape(*sizes.values())
        taking = re.findall(r"'(\w+)'", mesh[4])
        return ids[tuple(slice(None) if name in taking else 0 for name in sizes)].ravel().tolist()
    if listed := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
        return iota(listed[3], listed[4]).reshape(int(listed[1]), int(listed[2]))[0].tolist()
    if listed := re.search(r"replica_groups=\{(\{.*?\})\}", rest):
        return numbers(listed[1])[0]
    return list(range(devices))


def iota(shape: str, order: str | None) -> np.ndarray:
    """ "2,128", "1,0" -> 0 ... 255 in that shape, its dims in that order."""
    dims = [int(n) for n in shape.split(",")]
    ids = np.arange(prod(dims)).reshape(dims)
    return ids.transpose([int(n) for n in order.split(",")]) if order else ids


def numbers(text: str) -> list[list[int]]:
    """ "{0,1},{2,3}" -> [[0, 1], [2, 3]]."""
    return [[int(n) for n in part.split(",")] for part in re.findall(r"[\d,]*\d", text.replace("},{", "} {"))]


def rematerialised(log: str) -> list[dict[str, str]]:
    """XLA's "Involuntary full rematerialization" lines: tensors that it could only reshard by making them whole."""
    tensors = []
    for line in log.splitlines():
        if "Involuntary full rematerialization" in line:
            name, shape = captured(r"HLO operation %?([\w.-]+) = (\w+\[[\d,]*\])", line)
            before, after = captured(r"cannot go from sharding (.*?) to (.*?) efficiently", line)
            [op_name] = captured(OP_NAME, line)
            tensors.append({"tensor": name, "shape": shape, "op_name": op_name, "from": before, "to": after})
    return tensors
