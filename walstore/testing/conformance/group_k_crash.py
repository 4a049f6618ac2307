"""hashicorp/raft-wal, alice: four workloads under the loss of anything that was not synced."""

from ._cuts import Workload
from ._image import SMALL, ZEROED, disk_of
from ._kit import Lab, case, expect_true
from .group_k_log import append_by_tens, wide


@case("K-29", reads=True, needs={"disk"})
async def alice_workloads(lab: Lab) -> None:
    """Append, cut the head, cut the tail, cut all: what was acknowledged is there, the rest whole or absent."""
    states = 0
    for name in ("append", "head", "tail", "all"):
        node = lab.another()
        config = ZEROED if name == "append" else SMALL
        store = await node.open(config=config)
        work = Workload(node, config=config)
        if name != "append":
            await append_by_tens(store, 1, 31)
        await work.note()
        match name:
            case "append":
                for start, stop in ((1, 2), (2, 12), (12, 22), (22, 23)):
                    await store.replicate_to_log(wide(start, stop))
                    await work.note()
            case "head":
                await store.delete_logs_from(0, 16)
            case "tail":
                await store.delete_logs_from(16)
            case _:
                await store.delete_logs_from(0)
        await work.note()
        await store.replicate_to_log(
            wide(16 if name == "tail" else 31, 32, term=2) if name != "append" else wide(23, 24)
        )
        await work.note()
        states += await work.check(2)
        for disk in work.every_state(len(disk_of(node).operations) - 1, 8):
            await work.check_one(disk, len(disk_of(node).operations) - 1)
            states += 1
    expect_true(states > 60, "the workloads have steps to be cut at")
