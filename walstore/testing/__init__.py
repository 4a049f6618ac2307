"""For tests: a disk that forgets, faults on demand, the interface as a model in memory, and the conformance kit."""
