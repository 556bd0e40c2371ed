"""How a proposal stands to what is published: equal, easily taken for it, or breaking it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.new_interface import NewInterface
from marketplace.proposal_compiler import ProposalCompiler
from marketplace.proposal_findings import FINDINGS_MAX, Finding
from marketplace.proposal_likeness import confusable, exists_already, skeleton
from marketplace.storage_interface import InterfaceStorage

#: Earlier versions that one proposal is compared with.
_COMPARED_MAX = 50


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What of the catalogue a proposal is compared with, as it was at one instant."""

    #: Newest version and its publication by interface.
    newest: tuple[tuple[str, int, int], ...]
    #: Name, version, shape and skeleton of what is like one of the interfaces.
    like: tuple[tuple[str, int, bytes, str], ...]
    is_published: bool


async def neighbours(
    storage: InterfaceStorage, interfaces: Sequence[NewInterface], digest: bytes
) -> Neighbours:
    """Read what a proposal is compared with."""
    names = [each.interface_name for each in interfaces]
    newest = await storage.newest(names)
    return Neighbours(
        newest=tuple((name, *newest[name]) for name in sorted(newest)),
        like=tuple(await storage.like([each.shape for each in interfaces], names)),
        is_published=await storage.is_published(digest),
    )


async def published_sets(storage: InterfaceStorage, known: Neighbours) -> list[tuple[str, bytes]]:
    """Read the earlier versions that a proposal must not break."""
    wanted = known.newest[:_COMPARED_MAX]
    return [(name, await storage.descriptor_set(number)) for name, _, number in wanted]


async def compare(
    compiler: ProposalCompiler,
    descriptor_set: bytes,
    interfaces: Sequence[NewInterface],
    known: Neighbours,
    earlier: Sequence[tuple[str, bytes]],
) -> tuple[Finding, ...]:
    """Find what a proposal has in common with published interfaces, or takes from them."""
    findings = likenesses(interfaces, known)
    if earlier:
        findings += await compiler.compare(descriptor_set, earlier)
    return findings[:FINDINGS_MAX]


def likenesses(interfaces: Sequence[NewInterface], known: Neighbours) -> tuple[Finding, ...]:
    """Find interfaces that exist already, however renamed, and names that look like others'."""
    found: list[Finding] = []
    if known.is_published:
        text = "the same files are published already"
        found.append(Finding("", 0, "", "interface.exists", text))
    for each in interfaces:
        name = each.interface_name
        package = name.rpartition(".")[0]
        for other, version, shape, looks in known.like:
            if shape == each.shape and other != name:
                found.append(exists_already(name, other, version))
            if looks == skeleton(name) and other.rpartition(".")[0] != package:
                found.append(confusable(name, other))
    return tuple(found)
