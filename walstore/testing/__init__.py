"""For tests, of a store or of what is built on one.

* `SimulatedFileSystem`: a disk in memory that forgets what was not synced; `enumerate_crashes` goes through all that a
  power cut may leave of it, `NoBarriers` makes a disk that never keeps its word.
* `RollbackFileSystem` and `roll_back`: the same for a real directory, after the process was killed.
* `FaultyFileSystem`: any file system, failing on demand.
* `MemoryStorage`: the whole interface in dicts; the model.
* `check_raft_storage`: the conformance kit, for whoever writes a `RaftStorage`; the rest is in `walstore.testing.kit`.
"""

from walstore.testing.crashes import enumerate_crashes
from walstore.testing.faults import FaultyFileSystem, NoBarriers
from walstore.testing.kit import Harness, Report, check_raft_storage
from walstore.testing.memory import MemoryStorage
from walstore.testing.rollback import RollbackFileSystem, roll_back
from walstore.testing.simulated import SimulatedFileSystem, SimulatedPowerCut

__all__ = [
    "FaultyFileSystem",
    "Harness",
    "MemoryStorage",
    "NoBarriers",
    "Report",
    "RollbackFileSystem",
    "SimulatedFileSystem",
    "SimulatedPowerCut",
    "check_raft_storage",
    "enumerate_crashes",
    "roll_back",
]
