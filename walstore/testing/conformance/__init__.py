"""The conformance kit: numbered cases that any `RaftStorage` must pass.  Use it through `walstore.testing.kit`.

`_machine` and `_lab` are what a case is given, `_helpers` its words, `_registry` and `_run` the machinery; each
`group_*` file holds the cases of one group of the acceptance list.
"""
