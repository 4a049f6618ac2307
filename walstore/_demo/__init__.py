"""The demo: lines of text into a standalone store, in a process that is killed again and again.

    tools/demo  ->  __main__   what was asked for
                    parent     starts, kills and judges the children, and cuts the power
                    child      one life of the store: recover, verify, write, compact
                    lines      the input, numbered
                    disk       the real disk, slow, with before-images
                    reports    what a child says through its pipe
                    ledger     what was acknowledged, and what has become of it

The parent knows what it was told, the child knows what it finds: neither believes the other.
"""
