"""The conformance kit, for whoever writes a `RaftStorage`: `report = await check_raft_storage(MyHarness)`.

It needs no test runner.  With one, parametrise over `cases()` and call `run_case`.  Errors are those of
`walstore.errors`; everything else is asked through the interface, and through what a `Harness` offers.
"""

from .conformance._kit import (
    KIT_CODEC,
    LEFT_OUT,
    MODES,
    NO_CONFIG,
    POISON,
    Case,
    CaseFailure,
    ClientRequest,
    ClientResponse,
    Failure,
    FrozenBytes,
    Harness,
    KitCodec,
    KitMachine,
    Lab,
    MachineFactory,
    Mode,
    PoisonError,
    Report,
    Store,
    cases,
    check_raft_storage,
    run_case,
)

__all__ = [
    "KIT_CODEC",
    "LEFT_OUT",
    "MODES",
    "NO_CONFIG",
    "POISON",
    "Case",
    "CaseFailure",
    "ClientRequest",
    "ClientResponse",
    "Failure",
    "FrozenBytes",
    "Harness",
    "KitCodec",
    "KitMachine",
    "Lab",
    "MachineFactory",
    "Mode",
    "PoisonError",
    "Report",
    "Store",
    "cases",
    "check_raft_storage",
    "run_case",
]
