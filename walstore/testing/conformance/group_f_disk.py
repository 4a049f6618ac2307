"""openraft, snapshot_streaming: starts over directories that contradict themselves."""

from ...errors import CorruptionError, InvertedLogError
from ._image import SMALL, Image
from ._kit import Lab, case, expect_true, log_and_apply, normals, refused
from .group_f_building import compact


@case("F-03", reads=True, needs={"disk"})
async def pointer_without_its_snapshot(lab: Lab) -> None:
    """A log whose pointer names a snapshot that is not there is refused: what is below it is lost."""
    store = await lab.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 6))
    await compact(store)
    await store.replicate_to_log(normals(1, 6, 8))
    await lab.close()
    image = Image.of(lab)
    (name,) = image.names("snap-*")
    error = await image.copy().remove(name).refused(lab, CorruptionError, what="a missing snapshot")
    expect_true(error.path is not None and error.path.endswith(name), "the error names the file that is missing")
    emptied = image.copy().write(name, b"")
    await emptied.refused(lab, CorruptionError, what="an empty snapshot")


@case("F-12", reads=True, needs={"disk"})
async def inverted_order_is_an_error(lab: Lab) -> None:
    """Where log and snapshot name one index with two terms the start fails, again and again: no silent repair."""
    for log_last, snapshot in (((2, 4), (3, 2)), ((1, 5), (2, 5))):
        node = lab.another()
        await node.harness.forge_inverted(log_last=log_last, snapshot=snapshot)
        for _ in range(3):
            with refused(InvertedLogError):
                await node.open()
