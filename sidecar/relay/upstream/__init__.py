"""The model server's side: its endpoints, their connections, and which of them a call goes to.

`pool` is what calls ask. It has an `endpoint` for each address that `resolve` finds, each with its connections (`wire`,
made by `dial`) and what is known of its health (`examiner`, `health`, `eject`); `balance` picks a connection, `budget`
and `retries` bound what is tried again, `states` is what can be told of it all. `balance`, `budget`, `eject` and
`retries` are pure: times and chance are arguments.
"""
