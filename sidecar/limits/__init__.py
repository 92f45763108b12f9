"""Rate limits: how a bucket is reckoned, and the ledger that all workers of a host share.

gcra           when a bucket allows a charge, in whole numbers
locks_ofd      short locks on parts of a file
ledger_file    the file: its form, who may use it, what a restart and a reboot make of it
ledger_mmap    the ledger that the `limit` link takes from
waiting        calls that wait for a lock of the ledger

LedgerError (UNAVAILABLE): the file cannot be used. What a full or locked ledger means is a `Taken`, no error.
"""
